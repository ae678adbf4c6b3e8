// Which version users get, for every model; desired state and actual state; the health of the servers.

import { badges, framework, h, problem, replace } from "./dom.js";
import { bytes, capital, digits, known } from "./format.js";
import { airflowLink, promotionRun } from "./frame.js";
import { openRelease } from "./release.js";
import { served, store, trained } from "./store.js";

export const title = "Overview";

export function show(place, _words, signal) {
  const draw = () => replace(place, h("h2", { class: "unseen" }, "Overview"), ...content(store.state));
  store.addEventListener("change", draw, { signal });
  draw();
}

function content({ models, servers, problems }) {
  const shown = models.filter((model) => model.registered.some(trained));
  const rest = models.filter((model) => !shown.includes(model));
  return [
    problems.length &&
      h(
        "ul",
        { class: "problems", role: "list", "aria-label": "Problems" },
        problems.map((text) => h("li", { class: "problem" }, text)),
      ),
    servers.length && health(servers),
    !shown.length && (problems.length ? h("p", {}, "No version is known.") : empty()),
    ...shown.map(modelSection),
    shown.length > 0 &&
      rest.length > 0 &&
      h(
        "p",
        { class: "quiet" },
        "Not trained yet: ",
        listed(rest.map(dagLink)),
        ".",
      ),
  ];
}

function empty() {
  return h(
    "section",
    { class: "card empty" },
    h("h3", {}, "No model has been trained yet"),
    h(
      "p",
      {},
      "Open ",
      dagLink({ model: "lenet5", title: "the DAG lenet5" }),
      " and press play (Trigger), or run this on the command line:",
    ),
    h("pre", {}, h("code", {}, "windtunnel run lenet5")),
    h(
      "p",
      { class: "quiet" },
      "It trains LeNet-5 in each framework, verifies and benchmarks the versions, and releases them. The champions then appear here.",
    ),
  );
}

function health(servers) {
  return h(
    "section",
    { class: "health", "aria-label": "Servers" },
    h(
      "ul",
      { role: "list" },
      servers.map(({ name, address, healthy, problem: why }) =>
        h(
          "li",
          { class: healthy ? "server" : "server down" },
          state(healthy, `${name} ${healthy ? "is healthy" : "is down"}`),
          h("span", { class: "quiet" }, healthy ? address : (why ?? address)),
        ),
      ),
    ),
    store.may &&
      h(
        "button",
        { type: "button", "data-key": "reconcile", on: { click: () => openRelease({ action: "reconcile" }) } },
        "Reconcile…",
      ),
  );
}

function modelSection(model) {
  const shown = model.registered.filter(trained);
  const rest = model.registered.filter((each) => !trained(each));
  const can = model.input.codec && shown.some(served);
  return h(
    "section",
    { class: "model", "aria-labelledby": `model-${model.model}` },
    h(
      "div",
      { class: "heading" },
      h("h3", { id: `model-${model.model}` }, capital(model.title)),
      can &&
        h(
          "a",
          { href: `#/try/${encodeURIComponent(model.model)}`, "data-key": `try ${model.model}` },
          `Try it`,
          h("span", { class: "unseen" }, `: ${model.title}`),
        ),
    ),
    h(
      "div",
      { class: "cards" },
      shown.map((each) => card(model, each)),
    ),
    rest.length > 0 && h("p", { class: "quiet" }, "No version yet: ", listed(rest.map((each) => each.name)), "."),
  );
}

function dagLink({ model, title: text }) {
  return airflowLink(`dags/${encodeURIComponent(model)}`, text, { "data-key": `dag ${model}` });
}

function listed(items) {
  return items.flatMap((item, index) => (index ? [", ", item] : [item]));
}

function card(model, each) {
  const { name, champion, previous, challenger, actual, agrees } = each;
  const path = encodeURIComponent(name);
  const verdict = { true: [true, "as desired"], false: [false, "not as desired"] }[agrees] ?? [null, "actual state unknown"];
  const wanted = [champion, previous, challenger].filter(Boolean).map((version) => version.version);
  const rival = challenger ?? previous;
  const others = (actual?.loaded ?? []).filter((version) => !wanted.includes(version));
  return h(
    "article",
    { class: "card", "aria-label": name },
    h("header", {}, h("h4", {}, framework(each.framework ?? name, each.colour)), state(...verdict)),
    h(
      "p",
      { class: "columns quiet" },
      h("span", {}, `Registered as ${name}`),
      h("span", {}, each.server ? `Served by ${each.server}` : "No server"),
    ),
    h(
      "ul",
      { class: "aliases", role: "list" },
      alias("champion", each, champions),
      alias("previous", each, loaded),
      alias("challenger", each, loaded),
    ),
    others.length > 0 && h("p", { class: "quiet" }, `Also loaded: version ${others.join(", ")}`),
    each.problem && (actual || !each.server) && problem(each.problem), // a server that is down is named once, above
    h(
      "footer",
      {},
      h(
        "a",
        { href: `#/versions/${path}`, "data-key": `versions ${name}` },
        each.newest ? `Versions (newest: ${each.newest})` : "Versions",
        h("span", { class: "unseen" }, ` of ${name}`),
      ),
      champion &&
        rival &&
        h(
          "a",
          {
            href: `#/compare/${encodeURIComponent(`${name}@${champion.version}`)}/${encodeURIComponent(`${name}@${rival.version}`)}`,
            "data-key": `compare ${name}`,
          },
          "Compare",
          h("span", { class: "unseen" }, ` champion and ${challenger ? "challenger" : "previous"} of ${name}`),
        ),
      store.may &&
        h(
          "span",
          { class: "buttons" },
          challenger && releases("promote", each, challenger.version),
          previous && releases("roll back", each, previous.version),
        ),
    ),
  );
}

function champions(actual, desired) {
  if (!actual) return [null, "no answer"];
  if (actual.champion === desired) return [true, "users get it"];
  return [false, actual.champion === null ? "users get none" : `users get ${actual.champion}`];
}

function loaded(actual, desired) {
  if (!actual) return [null, "no answer"];
  return actual.loaded.includes(desired) ? [true, "loaded"] : [false, "not loaded"];
}

/** Return what is known of an alias; `compared` says from actual state whether it is as desired. */
function alias(name, each, compared) {
  const version = each[name];
  if (!version) {
    const none = each.newest === null ? " unknown" : " none"; // without MLflow nobody knows
    const other = name === "champion" && each.actual?.champion;
    return h(
      "li",
      { class: "none" },
      h(
        "div",
        { class: "columns" },
        h("span", {}, badges([name]), none),
        other && state(each.newest === null ? null : false, `users get ${other}`),
      ),
    );
  }
  const { promoted } = version;
  return h(
    "li",
    {},
    h(
      "div",
      { class: "columns" },
      h("span", {}, badges([name]), " ", h("strong", {}, `version ${version.version}`)),
      state(...compared(each.actual, version.version)),
    ),
    h(
      "div",
      { class: "figures" },
      h("span", {}, h("b", {}, version.text ?? known(version.value)), ` ${version.metric ?? ""}`),
      version.throughput !== null && h("span", {}, h("b", {}, digits(version.throughput)), " requests/s"),
      version.size !== null && h("span", {}, h("b", {}, bytes(version.size))),
    ),
    promoted &&
      h(
        "p",
        { class: "quiet why" },
        promoted.action === "promote" ? "Promoted by " : "Rolled back by ",
        promoted.who ?? "unknown",
        " ",
        promotionRun(version),
        promoted.why ? `: ${promoted.why}` : "",
      ),
  );
}

/** Return the button that promotes a version or rolls back to it. */
function releases(action, { name, champion }, to) {
  const open = () => openRelease({ action, model: name, from: champion?.version, to });
  const undone = champion?.promoted?.action === "roll back"; // what is previous now was rolled back
  const text = action === "promote" ? `Promote ${to}…` : undone ? `Undo rollback to ${champion.version}…` : `Roll back to ${to}…`;
  return h(
    "button",
    { type: "button", "data-key": `${action} ${name}`, on: { click: open } },
    text,
    h("span", { class: "unseen" }, ` (${name})`),
  );
}

/** Return a state: true is good, false is bad, null is unknown. Never told by the colour alone. */
function state(good, text) {
  const [name, sign] = { true: ["good", "✓"], false: ["bad", "✕"] }[good] ?? ["unknown", "?"];
  return h("span", { class: `state ${name}` }, h("span", { "aria-hidden": "true" }, `${sign} `), text);
}
