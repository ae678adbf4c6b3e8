// Ask all champions of a model at once: with a drawing, a recording, a file, or a sample of the golden set.

import { Problem, samples, tryOut } from "./api.js";
import { answers, championsOf } from "./answers.js";
import { h, problem, replace } from "./dom.js";
import { drawingPad } from "./draw.js";
import { capital } from "./format.js";
import { told } from "./frame.js";
import { recorder } from "./microphone.js";
import { asWav, audioAddress } from "./sound.js";
import { atNextChange, served, store } from "./store.js";

export const title = "Try it";

const PAUSE = 120; // milliseconds without a change of the drawing, after which the champions are asked

export function show(place, words, signal) {
  const [wanted] = words;
  const choices = store.state.models.filter((model) => model.input.codec && model.registered.some(served));
  const model = choices.find((each) => each.model === wanted) ?? (wanted ? undefined : choices[0]);
  if (!model) atNextChange(() => show(place, words, signal), signal);
  if (!choices.length)
    return replace(place, h("h2", {}, title), h("p", {}, "No model has a champion yet: a run trains, verifies and promotes one."));
  const tabs = h(
    "nav",
    { class: "choices", "aria-label": "Model to try" },
    choices.map((each) =>
      h(
        "a",
        {
          href: `#/try/${encodeURIComponent(each.model)}`,
          "data-key": `try ${each.model}`,
          "aria-current": each === model ? "true" : null,
        },
        capital(each.title),
      ),
    ),
  );
  if (!model) return replace(place, h("h2", {}, title), tabs, problem(`${wanted} has no champion: it cannot be tried.`));
  replace(place, h("h2", {}, title), choices.length > 1 && tabs, lesson(model), workbench(model, signal));
}

/** Return what the champions take whatever they see for, if it is not what people would draw. */
function lesson(model) {
  const taught = model.registered.find((each) => each.champion?.classes)?.champion;
  if (!taught) return null;
  return h("p", {}, `The champions were trained on ${taught.dataset}: they answer any picture with one of ${taught.classes.join(", ")}.`);
}

function workbench(model, signal) {
  const board = answers(model);
  const file = h("input", { type: "file", id: "file", accept: accepted(model.input) });
  const note = h("div", { role: "alert" });
  const player = h("audio", { controls: true, hidden: true, "aria-label": "What is asked" });
  const golden = h("section", { class: "golden" });
  let latest = 0;
  let repeat = null; // asks again what was asked last

  /** Ask with a blob or with a sample; only the answers to the latest question are shown. */
  async function ask(body, sample = null) {
    const mine = ++latest;
    repeat = () => ask(body, sample);
    if (!sample) unpress(golden);
    replace(note);
    board.wait();
    try {
      const found = await tryOut({ model: model.model, sample: sample?.index ?? null }, body, { signal });
      if (mine !== latest) return;
      board.show(found, sample);
      replace(note, found.warning && problem(found.warning));
    } catch (error) {
      if (!(error instanceof Problem) || mine !== latest) return;
      board.clear();
      replace(note, problem(told(error)));
    }
  }

  function play(address) {
    if (player.src.startsWith("blob:")) URL.revokeObjectURL(player.src);
    player.src = address;
    player.hidden = false;
  }

  async function take(chosen) {
    if (!chosen) return;
    pad?.clear();
    if (!model.input.audio) return ask(typed(chosen));
    const mine = ++latest;
    const clip = await asWav(chosen);
    if (mine !== latest) return; // something else was asked meanwhile
    play(URL.createObjectURL(clip));
    return ask(clip);
  }

  const pad =
    model.input.codec === "image"
      ? drawingPad(model.input.shape, {
          pause: PAUSE,
          signal,
          drawn: (image) => ask(image),
          cleared: () => {
            latest += 1; // an answer that is on its way belongs to no drawing any more
            repeat = null;
            file.value = "";
            unpress(golden);
            replace(note);
            board.clear();
          },
        })
      : null;
  const clip = model.input.audio ? recorder(take, (text) => replace(note, text && problem(text)), signal) : null;
  file.addEventListener("click", () => (file.value = "")); // so that the same file can be chosen again
  file.addEventListener("change", () => take(file.files[0]));
  const input = h("section", { class: "input", "aria-label": "Input" }, pad?.element ?? clip, player, note);
  const files = h("label", { for: "file", class: "drop" }, h("span", {}, `Or drop or choose ${fileKinds(model.input)}`), file);
  showSamples(golden, model, signal, (sample) => {
    pad?.clear();
    file.value = "";
    if (sample.audio) play(audioAddress(sample.audio));
    ask(undefined, sample);
  });
  const bench = h("div", { class: "workbench" }, input, board.element, files, golden);
  dropOn(bench, take);
  const users = () => JSON.stringify(championsOf(model).map((each) => [each.name, served(each)]));
  let answering = users();
  store.addEventListener(
    "change",
    () => {
      if (answering === users()) return;
      answering = users();
      repeat ? repeat() : board.clear();
    },
    { signal },
  );
  return bench;
}

function accepted({ codec, audio }) {
  if (audio) return "audio/*,.wav";
  return codec === "image" ? "image/png,image/jpeg,.npy" : ".npy";
}

function fileKinds({ codec, audio }) {
  if (audio) return "a WAV file";
  return codec === "image" ? "a PNG, a JPEG or an .npy file" : "an .npy file";
}

/** Return a file with a type that the service knows. */
function typed(file) {
  return /^image\/(png|jpeg)$/.test(file.type) ? file : new Blob([file], { type: "application/octet-stream" });
}

function dropOn(element, take) {
  const over = (event, inside) => {
    event.preventDefault();
    element.classList.toggle("over", inside);
  };
  element.addEventListener("dragover", (event) => over(event, true));
  element.addEventListener("dragleave", (event) => over(event, false));
  element.addEventListener("drop", (event) => {
    over(event, false);
    take(event.dataTransfer.files[0]);
  });
}

/** Show no sample as chosen any more: something else is asked. */
function unpress(golden) {
  for (const button of golden.querySelectorAll("[aria-pressed=true]")) button.setAttribute("aria-pressed", "false");
}

async function showSamples(place, model, signal, choose) {
  const heading = h("h3", {}, `Or choose ${/^[aeiou]/.test(model.sample) ? "an" : "a"} ${model.sample} of the golden set`);
  replace(place, heading, h("p", { class: "quiet reserved" }, "Loading…"));
  try {
    const found = (await samples({ model: model.model }, { signal })).samples;
    if (!found.length)
      return replace(place, heading, h("p", { class: "quiet" }, "The champions have no golden set with samples to show."));
    const buttons = found.map((sample) => {
      const label =
        sample.label === null ? `${model.sample} ${sample.index}` : `${model.sample} ${sample.index}, labelled ${sample.label}`;
      const face = sample.image
        ? h("img", { src: sample.image, alt: "", width: 44, height: 44 })
        : h("span", {}, sample.label ?? sample.index);
      const button = h(
        "button",
        {
          type: "button",
          class: sample.image ? "sample picture" : "sample",
          "aria-label": label,
          title: label,
          "aria-pressed": "false",
        },
        face,
      );
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        choose(sample);
      });
      return button;
    });
    replace(place, heading, h("div", { class: "samples" }, buttons));
  } catch (error) {
    if (error instanceof Problem) replace(place, heading, problem(told(error)));
  }
}
