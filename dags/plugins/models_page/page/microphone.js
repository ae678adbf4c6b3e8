// Record a word with the microphone.

import { h } from "./dom.js";
import { samplesAsWav } from "./sound.js";

const SECONDS = 2; // recorded; the loudest second is asked, because people start to speak late

/** Return a button that records and calls `take` with a WAV; `complain` is called with a sentence, or with null. */
export function recorder(take, complain, signal) {
  const level = h("meter", { min: 0, max: 1, value: 0, "aria-label": "Level of the microphone" });
  const text = h("p", { class: "quiet", role: "status" }, `Records ${SECONDS} seconds and asks with the loudest of them.`);
  const button = h("button", { type: "button", class: "primary record", on: { click: record } }, "Record a word");

  async function record() {
    complain(null);
    if (!navigator.mediaDevices?.getUserMedia)
      return complain("The browser gives the microphone only to pages with HTTPS or on localhost. Choose a WAV file instead.");
    button.disabled = true;
    try {
      text.textContent = "The browser asks for the microphone…";
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
      });
      try {
        signal.throwIfAborted(); // the view may have been left while the browser asked
        const { samples, rate } = await listen(stream);
        text.textContent = "Recorded.";
        await take(await samplesAsWav(samples, rate));
      } finally {
        for (const track of stream.getTracks()) track.stop();
      }
    } catch (error) {
      text.textContent = "Nothing was recorded.";
      complain(refused(error));
    } finally {
      level.value = 0;
      button.disabled = false;
    }
  }

  async function listen(stream) {
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
      signal.throwIfAborted();
      const node = new AudioWorkletNode(context, "recorder");
      const parts = [];
      let length = 0;
      const enough = new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
        node.port.onmessage = ({ data }) => {
          parts.push(data);
          length += data.length;
          level.value = Math.min(1, 4 * Math.sqrt(data.reduce((sum, each) => sum + each * each, 0) / data.length));
          if (length >= SECONDS * context.sampleRate) resolve();
        };
      });
      context.createMediaStreamSource(stream).connect(node);
      text.textContent = "Recording: speak now.";
      await enough;
      const samples = new Float32Array(length);
      parts.reduce((at, part) => (samples.set(part, at), at + part.length), 0);
      return { samples, rate: context.sampleRate };
    } finally {
      await context.close();
    }
  }

  return h("div", { class: "microphone" }, button, level, text);
}

function refused(error) {
  if (error.name === "AbortError") return null;
  if (error.name === "NotAllowedError")
    return "The browser did not allow the microphone. Allow it for this page, or choose a WAV file.";
  if (error.name === "NotFoundError") return "There is no microphone. Choose a WAV file instead.";
  return `The microphone cannot be used: ${error.message}`;
}
