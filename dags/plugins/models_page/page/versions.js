// Every version of a registered model with its lineage, a page at a time.

import { versions } from "./api.js";
import { badges, framework, h, replace } from "./dom.js";
import { ago, bytes, capital, count, digest, digits, known } from "./format.js";
import { promotionRun, versionLinks } from "./frame.js";
import { pages } from "./pages.js";
import { openRelease } from "./release.js";
import { atNextChange, find, registered, store, trained } from "./store.js";

export const title = "Versions";

const NUMBERS = new Set([2, 3, 4]); // the columns of numbers

export function show(place, words, signal) {
  const [wanted] = words;
  const names = registered()
    .filter(trained)
    .map((each) => each.name);
  if (!names.length) {
    atNextChange(() => show(place, words, signal), signal);
    return replace(place, h("h2", {}, title), h("p", {}, "There are no versions yet: a run of a model makes them."));
  }
  const name = wanted || names[0];
  const choice = h(
    "select",
    { id: "versions-of", on: { change: () => (location.hash = `#/versions/${encodeURIComponent(choice.value)}`) } },
    [...new Set([...names, name])].map((each) => h("option", { value: each, selected: each === name }, each)),
  );
  const chosen = new Set();
  const compare = h(
    "button",
    {
      type: "button",
      disabled: true,
      on: { click: () => (location.hash = `#/compare/${[...chosen].map(encodeURIComponent).join("/")}`) },
    },
    "Compare two versions",
  );
  const body = h("tbody", { role: "rowgroup" });
  const foot = h("p", { class: "more" });
  const metric = capital(find(name)?.model.metric ?? "metric");
  const head = ["", "Version", metric, "Requests/s", "Size", "Created", "Run", "Commit, data", "Promoted"];
  const table = h(
    "table",
    { class: "stacked", role: "table", "aria-label": `Versions of ${name}`, "aria-busy": "true" },
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr",
        { role: "row" },
        head.map((text, index) =>
          h(
            "th",
            { role: "columnheader", scope: "col", class: NUMBERS.has(index) ? "number" : null },
            text || h("span", { class: "unseen" }, "Compare"),
          ),
        ),
      ),
    ),
    body,
  );

  const choose = (box) => {
    if (box.checked) chosen.add(box.value);
    else chosen.delete(box.value);
    two();
  };

  function two() {
    compare.disabled = chosen.size !== 2;
    for (const each of body.querySelectorAll("input[type=checkbox]")) each.disabled = chosen.size === 2 && !each.checked;
  }

  function draw(shown, more) {
    const ids = new Set(shown.map(identity));
    for (const id of chosen) if (!ids.has(id)) chosen.delete(id);
    replace(
      body,
      shown.map((version) => row(version, chosen, choose)),
    );
    two();
    const text = shown.length
      ? `${more ? "The newest" : "All"} ${count(shown.length, "version")} `
      : `The registry has no version of ${name}.`;
    return h("span", { class: "quiet", role: "status" }, text);
  }

  const reload = pages(foot, "Show older versions", {
    ask: async (last, limit) => {
      const found = await versions({ name, before: last?.version, limit }, { signal });
      return { items: found.versions, more: found.more };
    },
    draw,
    at: (index) => body.children[index]?.querySelector("input"),
  });

  replace(
    place,
    h("h2", {}, "Versions of ", framework(name, find(name)?.colour)),
    h("div", { class: "toolbar" }, h("label", { for: "versions-of" }, "Registered model"), choice, compare),
    table,
    foot,
  );
  reload().then(() => table.setAttribute("aria-busy", "false"));
  let before = state(name);
  store.addEventListener("change", () => before !== (before = state(name)) && reload(), { signal });
}

/** Return what makes the table out of date when it changes. */
function state(name) {
  const { champion, previous, challenger, newest } = find(name) ?? {};
  return JSON.stringify([champion?.version, previous?.version, challenger?.version, newest, store.may]);
}

function identity({ name, version }) {
  return `${name}@${version}`;
}

function row(version, chosen, choose) {
  const { name, version: number, aliases, promoted } = version;
  const id = identity(version);
  const box = h("input", {
    type: "checkbox",
    value: id,
    checked: chosen.has(id),
    "data-key": `choose ${id}`,
    "aria-label": `Compare version ${number}`,
    on: { change: () => choose(box) },
  });
  const open = () => openRelease({ action: "promote", model: name, from: find(name)?.champion?.version, to: number });
  const cells = [
    ["", box, "choice"],
    ["Version", [h("strong", { class: "index" }, String(number)), " ", badges(aliases)], "version"],
    [capital(version.metric ?? "metric"), version.text ?? known(version.value), "number"],
    ["Requests/s", digits(version.throughput), "number"],
    ["Size", known(version.size, bytes), "number"],
    ["Created", known(version.created, ago), "created"],
    ["Run", versionLinks(version), "long"],
    ["Commit, data", [digest(version.git_commit), " ", known(version.dataset), " ", digest(version.data_fingerprint)]],
    [
      "Promoted",
      promoted
        ? [promotionRun(version), ` by ${promoted.who ?? "unknown"}`, promoted.why ? `: ${promoted.why}` : ""]
        : "–",
      "long",
    ],
  ];
  if (store.may && !aliases.includes("champion")) {
    cells[1][1].push(
      " ",
      h(
        "button",
        { type: "button", class: "small", "data-key": `promote ${id}`, on: { click: open } },
        "Promote…",
        h("span", { class: "unseen" }, ` version ${number}`),
      ),
    );
  }
  return h(
    "tr",
    { role: "row" },
    cells.map(([label, content, kind]) => h("td", { role: "cell", class: kind, "data-label": label }, content)),
  );
}
