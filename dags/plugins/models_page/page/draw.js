// A pad to draw on with mouse, finger, pen or keys. The drawing is white on black, as in MNIST.

import { h } from "./dom.js";

const SIDE = 280; // pixels of the pad's own width
const PEN = 21; // its width: about 2 of the 28 pixels of an MNIST image
const STEP = 8; // how far an arrow key moves the pen
const INK = 40; // a pixel lighter than this has been drawn on
const BODY = 20 / 28; // the share of an MNIST image that the digit fills
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Return a pad for images of a shape (height, width, channels): its `element`, and `clear`, which empties it without a call of `cleared`.
 *
 * `drawn` is called with a PNG of that shape, `pause` milliseconds after a change; `cleared` after the user has emptied the pad.
 */
export function drawingPad([height, width], { pause, signal, drawn, cleared }) {
  const canvas = h("canvas", {
    width: SIDE,
    height: Math.round((SIDE * height) / width),
    tabindex: 0,
    role: "application",
    "aria-label": "Drawing area",
    "aria-describedby": "pad-help",
  });
  const pen = h("span", { class: "pen", hidden: true, "aria-hidden": "true" });
  const centre = h("input", { type: "checkbox", id: "centre", checked: true, on: { change: () => later() } });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let [x, y, down, empty, timer] = [canvas.width / 2, canvas.height / 2, false, true, 0];

  function wipe() {
    clearTimeout(timer);
    context.fillStyle = "black";
    context.fillRect(0, 0, canvas.width, canvas.height);
    empty = true;
    canvas.parentElement?.classList.add("blank");
  }

  function stroke(toX, toY) {
    Object.assign(context, { strokeStyle: "white", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(x, y);
    if (toX === x && toY === y)
      context.lineTo(toX + 0.01, toY); // a canvas draws no line without length: a tap would leave no dot
    else context.lineTo(toX, toY);
    context.stroke();
    empty = false;
    canvas.parentElement.classList.remove("blank");
    later();
  }

  function later() {
    clearTimeout(timer);
    if (!empty) timer = setTimeout(send, pause);
  }

  async function send() {
    const image = scaled(canvas, width, height, centre.checked);
    const blob = await new Promise((resolve) => image.toBlob(resolve, "image/png"));
    if (!empty && !signal.aborted) drawn(blob);
  }

  function position(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pen.hidden = true;
    [x, y] = position(event);
    down = true;
    stroke(x, y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!down || !canvas.hasPointerCapture(event.pointerId)) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const to = position(each);
      stroke(...to);
      [x, y] = to;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (down = false));
  canvas.addEventListener("keydown", (event) => {
    if (event.key in KEYS) {
      const [dx, dy] = KEYS[event.key];
      const to = [clamp(x + dx * STEP, canvas.width), clamp(y + dy * STEP, canvas.height)];
      if (down) stroke(...to);
      [x, y] = to;
    } else if (event.key === " ") {
      down = !down;
      if (down) stroke(x, y);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      empties();
    } else return;
    event.preventDefault();
    showPen();
  });
  canvas.addEventListener("blur", () => {
    pen.hidden = true;
    down = false;
  });

  function showPen() {
    pen.hidden = false;
    pen.classList.toggle("down", down);
    pen.style.setProperty("--x", `${(100 * x) / canvas.width}%`);
    pen.style.setProperty("--y", `${(100 * y) / canvas.height}%`);
  }

  function empties() {
    wipe();
    cleared();
  }

  const surface = h("div", { class: "surface" }, canvas, pen, h("span", { class: "hint", "aria-hidden": "true" }, "Draw here"));
  const element = h(
    "div",
    { class: "pad" },
    surface,
    h(
      "div",
      { class: "columns" },
      h("label", { for: "centre", class: "check" }, centre, " Centre and scale, as in MNIST"),
      h("button", { type: "button", on: { click: empties } }, "Clear"),
    ),
    h(
      "p",
      { id: "pad-help", class: "quiet" },
      "Draw with mouse, finger or pen. With keys: arrows move the pen, space puts it down or lifts it, Delete clears.",
    ),
  );
  wipe();
  return { element, clear: wipe };
}

function clamp(value, most) {
  return Math.min(Math.max(value, 0), most);
}

/**
 * Return a canvas of `width` x `height` with a drawing. If `centred`, its ink fills as much as a digit does in MNIST, and its centre of
 * mass is in the middle.
 */
function scaled(canvas, width, height, centred) {
  const image = h("canvas", { width, height });
  const context = image.getContext("2d");
  Object.assign(context, { fillStyle: "black", imageSmoothingQuality: "high" });
  context.fillRect(0, 0, width, height);
  let [scale, left, top] = [width / canvas.width, 0, 0];
  const ink = centred && inkOf(canvas);
  if (ink) {
    scale = (BODY * Math.min(width, height)) / Math.max(ink.right - ink.left + 1, ink.bottom - ink.top + 1, PEN * 2);
    [left, top] = [width / 2 - ink.x * scale, height / 2 - ink.y * scale];
  }
  context.drawImage(halved(canvas, scale), left, top, canvas.width * scale, canvas.height * scale);
  return image;
}

/** Return a canvas, halved until it is less than twice as large as it will be drawn: smoothing looks at few pixels only. */
function halved(canvas, scale) {
  let [found, left] = [canvas, scale];
  for (; left < 0.5; left *= 2) {
    const half = h("canvas", { width: Math.ceil(found.width / 2), height: Math.ceil(found.height / 2) });
    half.getContext("2d").drawImage(found, 0, 0, half.width, half.height);
    found = half;
  }
  return found;
}

/** Return the box around the ink of a canvas and its centre of mass, or null without ink. */
function inkOf(canvas) {
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const ink = { left: Infinity, top: Infinity, right: -1, bottom: -1 };
  let [mass, sumX, sumY] = [0, 0, 0];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at] < INK) continue;
    const [x, y] = [(at / 4) % width, Math.floor(at / 4 / width)];
    ink.left = Math.min(ink.left, x);
    ink.right = Math.max(ink.right, x);
    ink.top = Math.min(ink.top, y);
    ink.bottom = Math.max(ink.bottom, y);
    mass += data[at];
    sumX += x * data[at];
    sumY += y * data[at];
  }
  return mass ? { ...ink, x: sumX / mass, y: sumY / mass } : null;
}
