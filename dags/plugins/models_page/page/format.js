// Numbers, sizes and times as people read them.

import { h } from "./dom.js";

const NUMBERS = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const DAYS = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric" });
const MOMENTS = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const HOURS = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** Return what is known, or a dash. */
export function known(value, text = String) {
  return value === null || value === undefined ? "–" : text(value);
}

export function integer(value) {
  return NUMBERS.format(value);
}

/** Return a measurement with three digits, or all that are before the point. */
export function digits(value) {
  return known(value, (found) => (found < 100 ? found.toPrecision(3) : integer(found)));
}

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 1e6) return `${(size / 1e3).toPrecision(3)} kB`;
  return size < 1e9 ? `${(size / 1e6).toPrecision(3)} MB` : `${(size / 1e9).toPrecision(3)} GB`;
}

export function milliseconds(value) {
  return known(value, (found) => `${digits(found)} ms`);
}

/** Return a share in 0..1 as a percentage. */
export function percent(value) {
  return `${(100 * value).toFixed(value > 0.9995 || value < 0.0005 ? 0 : 1)} %`;
}

/** Return the first digits of a commit or a digest, and what is added to it, such as `-dirty`; its title is all of it. */
export function digest(text) {
  return known(text, (found) => h("code", { title: found }, found.replace(/^(sha256:)?([0-9a-f]{8})[0-9a-f]{8,}/, "$2")));
}

export function day(time) {
  return DAYS.format(new Date(time));
}

export function hour(time) {
  return HOURS.format(new Date(time));
}

export function moment(time) {
  return MOMENTS.format(new Date(time));
}

/** Return a `time` element such as "2 hours ago". */
export function ago(time) {
  return h("time", { class: "ago", datetime: time, title: moment(time) }, since(time));
}

/** Bring what `ago` made in a part of the page up to date. */
export function age(element) {
  for (const time of element.querySelectorAll("time.ago")) time.textContent = since(time.dateTime);
}

function since(time) {
  const seconds = (Date.now() - new Date(time)) / 1000;
  const [unit, length] = UNITS.find(([, size]) => seconds >= size) ?? ["minute", Infinity];
  if (length === Infinity) return "just now";
  return seconds > 30 * 86_400 ? day(time) : RELATIVE.format(-Math.floor(seconds / length), unit);
}

/** Return a text that begins with a capital letter. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return the plural of what a model calls a sample: "1 image", "2 images". */
export function count(number, what) {
  return `${integer(number)} ${what}${number === 1 ? "" : "s"}`;
}
