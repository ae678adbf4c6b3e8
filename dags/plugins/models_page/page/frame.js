// What differs inside Airflow's frame: where links lead, and the theme.

import { AIRFLOW, LOGGED_OUT } from "./api.js";
import { h } from "./dom.js";
import { ago } from "./format.js";

/** Return a link to a page of Airflow, by its path from Airflow's root. */
export function airflowLink(path, text, attributes = {}) {
  return h("a", { href: AIRFLOW + path, target: "_top", ...attributes }, text);
}

/** Return a link to the run `run`, whose `data-key` is `key`, or only the text if the path of the run, `run_url`, is unknown. */
export function runLink({ run, run_url: path }, key, text = runName(run)) {
  return path ? airflowLink(path, text, { title: run, "data-key": key }) : text;
}

/** Return links to the run that made a version, and to the version in MLflow. */
export function versionLinks({ name, version, dag_run: run, run_url, mlflow_url: address }) {
  const id = `${name}@${version}`;
  return [runLink({ run, run_url }, `run ${id}`), " · ", outsideLink(address, "MLflow", { "data-key": `MLflow ${id}` })];
}

/** Return a link to the run that promoted a version last, or returned to it, which says how long ago. */
export function promotionRun({ name, version, promoted }) {
  return runLink(promoted, `promoted ${name}@${version}`, ago(promoted.time));
}

/** Return the name of a run in short: its DAG and when it started, in UTC, if its name says so. */
function runName(run) {
  return run?.replace(/^([^/]+)\/\w+?__(\d{4}-\d\d-\d\d)T(\d\d)[:-](\d\d).*$/, "$1 $2 $3:$4") ?? "–";
}

/** Return what a `Problem` says, with a link to the login if that helps. The login leads back here. */
export function told({ message, status }) {
  if (status !== LOGGED_OUT) return message;
  const { pathname, search, hash } = (parentDocument() ?? document).location;
  const path = `api/v2/auth/login?${new URLSearchParams({ next: pathname + search + hash })}`;
  return [message, " ", airflowLink(path, "Log in", { "data-key": "log in" })];
}

/** Return a link to a page of another program, in a tab of its own. */
function outsideLink(address, text, attributes) {
  if (!/^https?:/.test(address)) return text;
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer", ...attributes }, text);
}

/**
 * Let links leave the frame. Airflow's sandbox forbids the frame to open a tab and to navigate the window, but it has Airflow's
 * own origin: a link in Airflow's document may do both.
 */
export function letLinksOut() {
  const outer = parentDocument();
  if (!outer) return;
  const follow = (event) => {
    const link = event.target.closest?.("a[target]");
    if (!link || event.defaultPrevented || (event.type === "auxclick" && event.button !== 1)) return;
    event.preventDefault();
    const apart = link.target === "_blank" || event.ctrlKey || event.metaKey || event.shiftKey || event.button === 1;
    const copy = outer.createElement("a");
    copy.href = link.href;
    copy.rel = "noopener noreferrer";
    if (apart) copy.target = "_blank";
    outer.body.append(copy);
    copy.click();
    copy.remove();
  };
  document.addEventListener("click", follow);
  document.addEventListener("auxclick", follow);
}

/** Follow Airflow's own switch between light and dark. */
export function followTheme() {
  const root = parentDocument()?.documentElement;
  if (!root) return;
  const follow = () => {
    for (const theme of ["light", "dark"]) document.documentElement.classList.toggle(theme, root.classList.contains(theme));
  };
  new MutationObserver(follow).observe(root, { attributes: true, attributeFilter: ["class"] });
  follow();
}

function parentDocument() {
  try {
    return window.parent === window ? null : window.parent.document;
  } catch {
    return null; // another origin's frame
  }
}
