// The audit log of releases as a time line, newest first.

import { history } from "./api.js";
import { framework, h, replace } from "./dom.js";
import { day, hour, moment } from "./format.js";
import { runLink } from "./frame.js";
import { pages } from "./pages.js";
import { find, registered, store, trained } from "./store.js";

export const title = "History";

const VERBS = { promote: "promoted", "roll back": "rolled back" };

export function show(place, [wanted], signal) {
  const names = registered()
    .filter(trained)
    .map((each) => each.name);
  const choice = h(
    "select",
    { id: "history-of", on: { change: () => (location.hash = `#/history/${encodeURIComponent(choice.value)}`) } },
    h("option", { value: "" }, "All"),
    [...new Set([...names, wanted].filter(Boolean))].map((name) => h("option", { value: name, selected: name === wanted }, name)),
  );
  const days = h("div", { class: "timeline" });
  const foot = h("p", { class: "more" });

  function draw(events) {
    const byDay = Map.groupBy(events, (event) => day(event.time));
    replace(
      days,
      [...byDay].map(([date, found]) => h("section", {}, h("h3", {}, date), h("ol", { role: "list" }, found.map(item)))),
    );
    return !events.length && h("span", {}, "No version has been promoted yet.");
  }

  const reload = pages(foot, "Show older", {
    ask: async (last, limit) => {
      const found = await history({ name: wanted || null, before: last?.index, limit }, { signal });
      return { items: found.events, more: found.more };
    },
    draw,
    at: (index) => days.querySelectorAll(".event")[index],
  });

  replace(
    place,
    h("h2", {}, "History of promotions"),
    h("div", { class: "toolbar" }, h("label", { for: "history-of" }, "Registered model"), choice),
    days,
    foot,
  );
  reload();
  store.addEventListener("change", reload, { signal });
}

function item(event) {
  const { index, time, action, name, from, to, who, why, run } = event;
  const known = find(name);
  const versions = from
    ? [" from version ", h("b", {}, String(from)), " to ", h("b", {}, String(to ?? "none"))]
    : [" to version ", h("b", {}, String(to ?? "none"))];
  return h(
    "li",
    {
      class: action === "promote" ? "event" : "event back",
      "data-key": `event ${index}`,
      tabindex: -1,
      vars: { "--colour": known?.colour ?? "gray" },
    },
    h("time", { datetime: time, title: moment(time) }, hour(time)),
    h(
      "div",
      {},
      h("p", {}, h("b", {}, who ?? "unknown"), ` ${VERBS[action] ?? action} `, framework(name, known?.colour), versions),
      h("p", { class: "quiet" }, why, why && run && " · ", run && runLink(event, `run ${index}`)),
    ),
  );
}
