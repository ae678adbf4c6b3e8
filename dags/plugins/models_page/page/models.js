// The entry: shows the view that the address names, such as #/versions/lenet5-pytorch.

import * as compare from "./compare.js";
import { h, problem, replace } from "./dom.js";
import { age, hour } from "./format.js";
import { followTheme, letLinksOut, told } from "./frame.js";
import * as history from "./history.js";
import * as overview from "./overview.js";
import { start, store } from "./store.js";
import * as trying from "./try.js";
import * as versions from "./versions.js";

const VIEWS = { overview, try: trying, versions, compare, history };

const main = document.querySelector("main");
let leave = new AbortController();

function show(event) {
  const [name, ...words] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const chosen = VIEWS[name] ? name : "overview";
  const focused = document.activeElement?.id; // a field that chooses what a view shows: it keeps the focus in the view that it leads to
  leave.abort();
  leave = new AbortController();
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.getAttribute("href") === `#/${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const view = VIEWS[chosen];
  document.title = `${view.title} · Models`;
  main.setAttribute("aria-busy", "false");
  if (!store.state) {
    const wait = h("p", { class: "quiet" }, "This page asks again every 10 seconds.");
    return replace(main, h("div", { class: "view" }, h("h2", {}, view.title), problem(told(store.problem)), wait));
  }
  const place = h("div", { class: `view ${chosen}` });
  replace(main, place);
  view.show(place, words, leave.signal);
  if (event) {
    ((focused && document.getElementById(focused)) || main).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function decoded(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return word; // a stray % in an address that somebody typed
  }
}

function asked() {
  const place = document.getElementById("updated");
  place.classList.toggle("problem", Boolean(store.problem && store.time));
  if (store.time)
    replace(place, store.problem ? [`Not refreshed since ${hour(store.time)}: `, told(store.problem)] : `As of ${hour(store.time)}`);
  age(main);
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  main.focus();
});
letLinksOut();
followTheme();
store.addEventListener("asked", asked);
await start();
addEventListener("hashchange", show);
show();
let complete = Boolean(store.state);
store.addEventListener("change", () => {
  if (!complete) show(); // until the service has answered once, the page says why it has not
  complete ||= Boolean(store.state);
});
