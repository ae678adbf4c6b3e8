// Promote, roll back, reconcile: runs of the DAG `release`, triggered as the user who is logged in.

import { Problem, release, releaseError, releaseRun } from "./api.js";
import { h, problem, replace } from "./dom.js";
import { airflowLink, told } from "./frame.js";
import { find, refresh } from "./store.js";

const REASON = 3; // characters at least, as the DAG demands
const SECONDS = 1;
const FINAL = new Set([401, 403, 404]); // statuses: who may not see a run, or no longer, does not see it a second later either
const QUEUED = 30; // seconds after which a queued run may be one of a paused DAG

/**
 * Ask for a reason in a dialog, and then start the release.
 *
 * What to do is `action` (promote, roll back or reconcile), the registered `model`, the version that users get now (`from`), and the
 * version that they will get (`to`).
 */
export function openRelease({ action, model = "", from, to }) {
  const button = { promote: "Promote", "roll back": "Roll back", reconcile: "Reconcile" }[action];
  const what = action === "reconcile" ? "" : ` ${model}`;
  const reason = h("textarea", {
    id: "reason",
    name: "reason",
    rows: 3,
    required: true,
    minlength: REASON,
    maxlength: 500,
    "aria-describedby": "reason-help",
  });
  const failed = h("div", { role: "alert" });
  const submit = h("button", { type: "submit", class: "primary" }, button);
  const form = h(
    "form",
    {},
    h("h2", { id: "dialog-title" }, `${button}${what}`),
    h("p", { id: "dialog-text" }, explained(action, model, from, to)),
    h("label", { for: "reason" }, "Reason"),
    reason,
    h(
      "p",
      { class: "quiet", id: "reason-help" },
      action === "reconcile" ? "It is kept in the log of the run, with your name." : "It is written into the audit log with your name.",
    ),
    failed,
    h("div", { class: "buttons" }, h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"), submit),
  );
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" }, form);
  const opener = document.activeElement?.dataset.key;
  dialog.addEventListener("close", () => {
    dialog.remove(); // the browser gives the focus back; if the opener was drawn anew meanwhile, do it here
    if (document.activeElement === document.body && opener) document.querySelector(`[data-key="${CSS.escape(opener)}"]`)?.focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const why = reason.value.trim();
    reason.setCustomValidity(why.length < REASON ? `Write at least ${REASON} characters.` : "");
    if (!form.reportValidity()) return;
    submit.disabled = true;
    replace(failed);
    try {
      const run = await release({ action, model, version: to ?? null, reason: why });
      dialog.close();
      const which = { promote: ` version ${to}`, "roll back": ` to version ${to}` }[action] ?? "";
      follow(run.dag_run_id, `${button}${what}${which}`);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      replace(failed, problem(refused(error)));
      submit.disabled = false;
    }
  });
  reason.addEventListener("input", () => reason.setCustomValidity(""));
  document.body.append(dialog);
  dialog.showModal();
  reason.focus();
}

function explained(action, model, from, to) {
  if (action === "reconcile")
    return "Every server will load and serve what the registry's aliases say: the desired state becomes the actual state.";
  const instead = from ? ` instead of version ${from}` : "";
  const loaded = find(model)?.actual?.loaded.includes(to);
  const how = loaded ? "It is loaded already: nobody waits for it." : "It is published and verified first.";
  return `Users of ${model} will get version ${to}${instead}. ${how}`;
}

function refused(error) {
  if (error.status === 403) return `Airflow refused it: you may not trigger the DAG release. ${error.message}`;
  if (error.status === 404) return "Airflow has no DAG release, or you may not see it.";
  return told(error);
}

async function reasonOf(id) {
  const found = await releaseError(id).catch(() => null); // the log may be gone, or the user may not read it
  return found ?? "the log of its task says why.";
}

/** Show the state of a run below the page's header until it has ended, or the user has dismissed it. */
async function follow(id, what) {
  const text = h("span", {});
  const path = `dags/release/runs/${encodeURIComponent(id)}`;
  const dismiss = h(
    "button",
    { type: "button", class: "small", on: { click: () => item.remove() } },
    "Dismiss",
    h("span", { class: "unseen" }, ` ${what}`),
  );
  const item = h(
    "p",
    { class: "activity" },
    h("strong", {}, what),
    " ",
    text,
    " ",
    airflowLink(path, "Open the run"),
    " ",
    dismiss,
  );
  const say = (words, state) => {
    item.className = `activity ${state}`;
    if (text.textContent !== h("span", {}, words).textContent) replace(text, words); // so that a screen reader says each state once
  };
  say("is queued.", "going");
  const activity = document.getElementById("activity");
  for (const ended of activity.querySelectorAll(".done")) ended.remove(); // what succeeded is in the history
  activity.append(item);
  for (let waited = 0; ; waited += SECONDS) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * SECONDS));
    if (!item.isConnected) return;
    let run;
    try {
      run = await releaseRun(id);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(["cannot be followed: ", told(error)], "going");
      if (FINAL.has(error.status)) return;
      continue;
    }
    if (run.state === "success" || run.state === "failed") {
      if (run.state === "success") say("succeeded.", "done");
      else say(`failed: ${await reasonOf(id)}`, "failed");
      return refresh();
    }
    if (run.state === "running") say("is running…", "going");
    else
      say(
        waited < QUEUED ? "is queued." : "is still queued: check that the DAG release is not paused and that the scheduler runs.",
        "going",
      );
  }
}
