// The answers of all champions of a model, side by side.

import { framework, h, problem, replace } from "./dom.js";
import { known, milliseconds, percent } from "./format.js";
import { served, store } from "./store.js";

const MOST = 12; // bars of one answer
const SETTLED = 600; // milliseconds after which a screen reader is told: not each answer while somebody draws

/** Return a board with a place for each champion: its `element`, and `wait`, `show` and `clear`. */
export function answers(model) {
  const colours = new Map(model.registered.map((each) => [each.name, each.colour]));
  const verdict = h("p", { class: "verdict" });
  const spoken = h("p", { class: "unseen", role: "status" });
  const seen = h("img", { class: "seen", alt: "", hidden: true, width: 56, height: 56 });
  const list = h("ul", { class: "answers", role: "list" });
  const element = h(
    "section",
    { class: "output", "aria-label": "Answers" },
    h("div", { class: "verdict-row" }, seen, verdict),
    spoken,
    list,
  );
  let timer = 0;

  function tell(text) {
    verdict.textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => (spoken.textContent = text), SETTLED);
  }

  function clear() {
    element.classList.remove("waiting");
    seen.hidden = true;
    tell("The answers appear here.");
    replace(
      list,
      championsOf(model).map((each) =>
        card({ ...each, version: served(each), label: null, bars: [], milliseconds: null, problem: null }, each.colour),
      ),
    );
  }

  clear();
  return {
    element,
    clear,
    wait: () => element.classList.add("waiting"),
    show: ({ answers: found, seen: image }, sample) => {
      element.classList.remove("waiting");
      seen.hidden = !image;
      if (image) {
        seen.src = image;
        seen.alt = `What the models see${sample ? `: ${model.sample} ${sample.index}` : ""}`;
      }
      tell(summary(found, sample));
      replace(
        list,
        found.map((each) => card(each, colours.get(each.name), sample)),
      );
    },
  };
}

/** Return the registered models of a model that have a champion now. */
export function championsOf({ model }) {
  const now = store.state.models.find((each) => each.model === model);
  return (now?.registered ?? []).filter(served);
}

function summary(found, sample) {
  const answered = found.filter((each) => !each.problem);
  const labels = [...new Set(answered.map((each) => String(each.label)))];
  const truth = sample && sample.label !== null ? ` It is labelled ${sample.label}.` : "";
  const silent = found.length - answered.length;
  const missing = silent ? ` ${silent === 1 ? "One champion does" : `${silent} champions do`} not answer.` : "";
  if (!answered.length) return "No champion answers.";
  const listed = answered.map((each) => `${each.framework} answers ${each.label}`).join(", ");
  if (labels.length > 1) return `The champions disagree: ${listed}.${truth}${missing}`;
  const who =
    answered.length === 1 ? `${answered[0].framework} answers` : `${silent ? "The other" : "All"} ${answered.length} answer`;
  return `${who} ${labels[0]}.${truth}${missing}`;
}

function card({ name, framework: made, server, version, label, bars, milliseconds: time, problem: why }, colour, sample) {
  const judged = label !== null && sample && sample.label !== null;
  const right = judged && String(label) === String(sample.label);
  return h(
    "li",
    { class: "card answer", "data-name": name, vars: { "--colour": colour ?? "gray" } },
    h(
      "p",
      { class: "columns" },
      framework(made ?? name, colour),
      h("span", { class: "quiet" }, `version ${known(version)} on ${server}`),
    ),
    why
      ? problem(why)
      : [
          h(
            "p",
            { class: "columns label" },
            h("strong", {}, known(label)),
            judged && h("span", { class: right ? "state good" : "state bad" }, right ? "✓ right" : "✕ wrong"),
            h("span", { class: "quiet time" }, milliseconds(time)),
          ),
          h(
            "ul",
            { class: "bars", role: "list" },
            ordered(bars).map((each) => bar(each, String(each.label) === String(label))),
          ),
        ],
  );
}

/** Return bars in an order that stays while somebody draws: few numbers in their order, anything else by value, the largest first. */
function ordered(bars) {
  if (bars.length <= MOST && bars.every(({ label }) => /^\d+$/.test(label))) return bars.toSorted((a, b) => a.label - b.label);
  return bars.toSorted((a, b) => b.value - a.value).slice(0, MOST);
}

function bar({ label, value }, best) {
  return h(
    "li",
    { class: best ? "best" : null },
    h("span", {}, String(label)),
    h(
      "span",
      { class: "track", "aria-hidden": "true" },
      h("span", { class: "fill", vars: { "--share": Math.min(Math.max(value, 0), 1) } }),
    ),
    h("span", { class: "number" }, percent(value)),
  );
}
