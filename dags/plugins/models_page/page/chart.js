// Curves over epochs as a small SVG.

import { h, svg } from "./dom.js";

const [WIDTH, HEIGHT] = [420, 220];
const BOX = { left: 56, right: 12, top: 10, bottom: 30 };
const DASHES = ["none", "6 4"]; // so that the lines differ without their colours, too

/**
 * Return a figure with one line for each series, or null if none has points.
 *
 * A series has a `name`, a `colour` and `points`, a list of [epoch, value].
 */
export function chart(label, series) {
  const points = series.flatMap((each) => each.points);
  if (!points.length) return null;
  const [first, last] = extent(points.map(([epoch]) => epoch));
  const ticks = nice(...extent(points.map(([, value]) => value)));
  const [low, high] = [ticks[0], ticks.at(-1)];
  const x = (epoch) => BOX.left + ((epoch - first) / (last - first || 1)) * (WIDTH - BOX.left - BOX.right);
  const y = (value) => HEIGHT - BOX.bottom - ((value - low) / (high - low)) * (HEIGHT - BOX.top - BOX.bottom);
  const epochs = [...new Set(points.map(([epoch]) => epoch))].sort((a, b) => a - b);
  const every = Math.ceil(epochs.length / 8);
  return h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, label),
    svg(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        role: "img",
        "aria-label": `${label} by epoch. ${series
          .filter((each) => each.points.length)
          .map(lastValue)
          .join(". ")}`,
      },
      ticks.map((tick) => [
        svg("line", { class: "grid", x1: BOX.left, x2: WIDTH - BOX.right, y1: y(tick), y2: y(tick) }),
        svg("text", { x: BOX.left - 6, y: y(tick) + 4, "text-anchor": "end" }, tidy(tick)),
      ]),
      epochs
        .filter((_, index) => index % every === 0)
        .map((epoch) => svg("text", { x: x(epoch), y: HEIGHT - 10, "text-anchor": "middle" }, String(epoch))),
      series.map(({ colour, points: own }, index) => [
        svg("polyline", {
          class: "curve",
          points: own.map(([epoch, value]) => `${x(epoch)},${y(value)}`).join(" "),
          stroke: colour,
          "stroke-dasharray": DASHES[index],
        }),
        own.map(([epoch, value]) =>
          svg("circle", {
            cx: x(epoch),
            cy: y(value),
            r: 3.5,
            fill: index ? "var(--surface)" : colour,
            stroke: colour,
            "stroke-width": 2,
          }),
        ),
      ]),
    ),
    h(
      "ul",
      { class: "legend", role: "list" },
      series.map(({ name, colour, points: own }, index) =>
        h(
          "li",
          {},
          svg(
            "svg",
            { viewBox: "0 0 28 10", "aria-hidden": "true" },
            svg("line", { class: "curve", x1: 1, x2: 27, y1: 5, y2: 5, stroke: colour, "stroke-dasharray": DASHES[index] }),
          ),
          own.length ? name : `${name}: not kept`,
        ),
      ),
    ),
  );
}

function lastValue({ name, points }) {
  const [epoch, value] = points.at(-1);
  return `${name}: ${tidy(value)} after epoch ${epoch}`;
}

function extent(values) {
  return [Math.min(...values), Math.max(...values)];
}

/** Return round numbers from at most `low` to at least `high`. */
function nice(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  const start = Math.floor(low / step);
  const end = Math.max(Math.ceil(high / step), start + 1);
  return Array.from({ length: end - start + 1 }, (_, index) => (start + index) * step);
}

function tidy(value) {
  return String(Number(value.toPrecision(4)));
}
