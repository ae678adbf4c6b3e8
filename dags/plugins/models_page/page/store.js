// What the service last said about all models, asked again every few seconds while the page is visible.

import { models, permissions, Problem } from "./api.js";

const SECONDS = 10;

export const store = Object.assign(new EventTarget(), { state: null, problem: null, time: null, may: null });

let asking = null;

/** Ask now. What is being asked already may be answered with what was before: it is waited for. */
export async function refresh() {
  await asking;
  await poll();
}

async function poll() {
  asking ??= ask().finally(() => (asking = null));
  await asking;
}

/** Fires `change` if the answer is another one, and `asked` each time. */
async function ask() {
  const before = said();
  try {
    [store.state] = await Promise.all([models(), learn()]);
    store.problem = null;
    store.time = new Date();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    store.problem = error;
  }
  if (said() !== before) store.dispatchEvent(new Event("change"));
  store.dispatchEvent(new Event("asked"));
}

function said() {
  return JSON.stringify([store.state, store.problem?.message, store.may]);
}

/** Ask whether the user may release, until it is known: `store.may` is null until then. */
async function learn() {
  try {
    store.may ??= (await permissions()).release;
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // without a word: what the user sees is complete but for the buttons
  }
}

/** Ask for the first time, and then again and again. */
export async function start() {
  await poll();
  setInterval(() => document.visibilityState === "visible" && poll(), 1000 * SECONDS);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && poll());
}

/** Call `show` at the next change: a view that had nothing to show may have something then. `signal` ends the wait. */
export function atNextChange(show, signal) {
  store.addEventListener("change", show, { signal, once: true });
}

/** Return every registered model, with the model it belongs to. */
export function registered() {
  return (store.state?.models ?? []).flatMap((model) => model.registered.map((each) => ({ model, ...each })));
}

/** Whether a registered model may have versions: null is unknown, because MLflow does not answer. A server may still have deleted ones. */
export function trained({ newest, actual }) {
  return newest !== 0 || Boolean(actual?.loaded.length);
}

/** Return the number of the version that users get, as far as the registry or the server says it. */
export function served({ champion, actual }) {
  return champion?.version ?? actual?.champion ?? null;
}

/** Return a registered model by its name. */
export function find(name) {
  return registered().find((each) => each.name === name);
}
