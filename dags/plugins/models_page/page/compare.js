// Two versions next to each other: metrics, lineage, curves, certificate, latency, and the samples on which they differ.

import { compare, Problem } from "./api.js";
import { chart } from "./chart.js";
import { badges, framework, h, problem, replace } from "./dom.js";
import { ago, bytes, capital, count, digest, digits, integer, known } from "./format.js";
import { told, versionLinks } from "./frame.js";
import { defaults, side } from "./sides.js";
import { atNextChange, find, registered, trained } from "./store.js";

export const title = "Compare";

const COLUMNS = [
  ["req/s", "requests per second"],
  ["p50", "median latency in ms"],
  ["p99", "99th percentile of the latency in ms"],
];
const PROTOCOLS = { rest: "REST", grpc: "gRPC" };

export function show(place, words, signal) {
  const choices = registered().filter(trained);
  if (!choices.length) {
    atNextChange(() => show(place, words, signal), signal);
    return replace(place, h("h2", {}, title), h("p", {}, "There are no versions to compare yet: a run of a model makes them."));
  }
  const chosen = words.length === 2 && words.every((word) => /@\d+$/.test(word)) ? words : defaults(choices);
  const result = h("div", { class: "comparison" });
  const button = h("button", { type: "submit", class: "primary" }, "Compare");
  const ready = () => (button.disabled = sides.some((each) => !each.ready()));
  const sides = ["A", "B"].map((letter, index) => side(letter, chosen[index], choices, signal, ready));
  const form = h(
    "form",
    {
      class: "sides",
      on: {
        submit: (event) => {
          event.preventDefault();
          location.hash = `#/compare/${sides.map((each) => encodeURIComponent(each.value())).join("/")}`;
        },
      },
    },
    sides.map((each) => each.element),
    button,
  );
  replace(place, h("h2", {}, "Compare two versions"), form, result);
  load(result, chosen, signal);
}

async function load(place, [a, b], signal) {
  replace(place, h("p", { class: "quiet loading", role: "status" }, "Comparing…"));
  try {
    const found = await compare({ a, b }, { signal });
    const sides = [found.a, found.b].map((each, index) => ({
      ...each,
      letter: "AB"[index],
      colour: find(each.name)?.colour ?? "gray",
      model: find(each.name)?.model,
    }));
    if (sides[0].colour === sides[1].colour) sides[1].colour = "var(--text)"; // two versions of one framework
    replace(place, facts(sides), curves(sides), latency(sides), differences(found.differences, sides));
  } catch (error) {
    if (!(error instanceof Problem)) return;
    replace(
      place,
      problem(told(error)),
      h("button", { type: "button", on: { click: () => load(place, [a, b], signal) } }, "Try again"),
    );
  }
}

function called({ letter, name, version }) {
  return `${letter}: ${name} ${version}`;
}

function heads(sides) {
  return sides.map((each) => h("th", { scope: "col" }, framework(called(each), each.colour), " ", badges(each.aliases ?? [])));
}

function facts(sides) {
  const row = (label, of) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, label),
      sides.map((each) => h("td", {}, of(each))),
    );
  return h(
    "section",
    {},
    h("h3", {}, "Versions"),
    h(
      "table",
      { class: "facts" },
      h("thead", {}, h("tr", {}, h("td", {}), heads(sides))),
      h(
        "tbody",
        {},
        row(capital(sides[0].metric ?? "metric"), (each) => h("b", {}, each.text ?? known(each.value))),
        row("Throughput", (each) => (each.throughput === null ? "–" : `${digits(each.throughput)} requests/s`)),
        row("Size", (each) => known(each.size, bytes)),
        row("Created", (each) => known(each.created, ago)),
        row("Run", versionLinks),
        row("Commit", (each) => digest(each.git_commit)),
        row("Data", (each) => [known(each.dataset), " ", digest(each.data_fingerprint)]),
        row("Parity certificate", (each) => certificate(each.certificate)),
      ),
    ),
  );
}

function certificate(found) {
  if (!found) return "–";
  const verdict = h("span", { class: found.passed ? "state good" : "state bad" }, found.passed ? "✓ passed" : "✕ failed");
  if (!found.text) return verdict;
  return h(
    "details",
    {},
    h("summary", {}, verdict),
    h("pre", { tabindex: 0, role: "region", "aria-label": "Parity certificate" }, found.text),
  );
}

function curves(sides) {
  const drawn = (key) =>
    sides.map(({ curve, colour, ...each }) => ({
      name: called(each),
      colour,
      points: curve.filter((point) => point[key] !== null && point[key] !== undefined).map((point) => [point.epoch, point[key]]),
    }));
  const plots = [
    ["Training loss", "loss"],
    [`Test ${sides[0].metric ?? "metric"}`, "value"],
  ].map(([label, key]) => chart(label, drawn(key)));
  return h(
    "section",
    {},
    h("h3", {}, "Curves"),
    plots.some(Boolean)
      ? h("div", { class: "charts" }, plots)
      : h("p", { class: "quiet" }, "The curves of these versions were not kept."),
  );
}

function latency(sides) {
  const key = ({ protocol, concurrency, batch }) => `${protocol} ${concurrency} ${batch}`;
  const rows = new Map(sides.flatMap((each) => each.benchmark).map((each) => [key(each), each]));
  const heading = h("h3", {}, "Throughput and latency ", rows.size > 0 && h("span", { class: "quiet" }, "(ms)"));
  if (!rows.size) return h("section", {}, heading, h("p", { class: "quiet" }, "Neither version was benchmarked."));
  return h(
    "section",
    {},
    heading,
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Throughput and latency" },
      h(
        "table",
        { class: "latency" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col", rowspan: 2 }, "Requests"),
            sides.map((each) => h("th", { scope: "colgroup", colspan: 3 }, framework(called(each), each.colour))),
          ),
          h(
            "tr",
            {},
            sides.map(() => COLUMNS.map(([text, title]) => h("th", { scope: "col", class: "number" }, h("abbr", { title }, text)))),
          ),
        ),
        h(
          "tbody",
          {},
          [...rows.values()].map((wanted) =>
            h(
              "tr",
              {},
              h(
                "th",
                { scope: "row" },
                `${PROTOCOLS[wanted.protocol] ?? wanted.protocol}, ${wanted.concurrency} at once, batch ${wanted.batch}`,
              ),
              sides.map(({ benchmark }) => {
                const found = benchmark.find((each) => key(each) === key(wanted));
                return [digits(found?.requests_per_second), inMilliseconds(found?.p50), inMilliseconds(found?.p99)].map((text) =>
                  h("td", { class: "number" }, text),
                );
              }),
            ),
          ),
        ),
      ),
    ),
  );
}

function inMilliseconds(seconds) {
  return known(seconds, (found) => digits(1000 * found));
}

function differences(found, sides) {
  const what = sides[0].model?.sample ?? "sample";
  const heading = h("h3", {}, `Test ${what}s with different answers`);
  if (!found)
    return h(
      "section",
      {},
      heading,
      h(
        "p",
        { class: "quiet" },
        "The answers of these versions to the test set cannot be compared: they were not kept, or the test sets differ.",
      ),
    );
  const shown = found.samples.length < found.count ? ` The first ${integer(found.samples.length)} are shown.` : "";
  return h(
    "section",
    {},
    heading,
    h(
      "p",
      {},
      found.count
        ? `They differ on ${integer(found.count)} of ${count(found.of, what)}.${shown}`
        : `They agree on all ${count(found.of, what)}.`,
    ),
    h(
      "ul",
      { class: "differences", role: "list" },
      found.samples.map(({ index, label, a, b, image }) =>
        h(
          "li",
          {},
          image
            ? h("img", { src: image, alt: `${what} ${index}`, width: 56, height: 56 })
            : h("span", { class: "quiet" }, `${what} ${index}`),
          h("dl", {}, pair("label", label), answer("A", a, label), answer("B", b, label)),
        ),
      ),
    ),
  );
}

function pair(term, value, kind) {
  return h("div", { class: kind }, h("dt", {}, term), h("dd", {}, known(value)));
}

function answer(letter, value, label) {
  if (label === null) return pair(letter, value);
  const right = String(value) === String(label);
  return pair(letter, [String(value), right ? " ✓" : " ✕"].join(""), right ? "right" : "wrong");
}
