// The choice of the two versions that are compared.

import { Problem, versions } from "./api.js";
import { h, replace } from "./dom.js";
import { find, served } from "./store.js";

const LIMIT = 50;

/** Return two versions that are worth comparing: a champion and what it replaced, or the champions of two frameworks. */
export function defaults(choices) {
  const replaced = choices.find((each) => each.champion && each.previous);
  if (replaced) return [`${replaced.name}@${replaced.champion.version}`, `${replaced.name}@${replaced.previous.version}`];
  const champions = choices.filter((each) => each.champion);
  const a = champions[0] ?? choices[0];
  const b = champions.find((each) => each !== a && each.model.model === a.model.model) ?? a;
  return [a, b].map((each) => `${each.name}@${served(each) ?? each.newest ?? 1}`);
}

/**
 * Return the fields that choose the version of one side: their `element`, `value`, which returns NAME@VERSION, and `ready`, which
 * returns whether a version is chosen.
 *
 * `chosen` is the version that is chosen at first, and `choices` are the registered models. `changed` is called when `ready` may have
 * changed.
 */
export function side(letter, chosen, choices, signal, changed) {
  const at = chosen.lastIndexOf("@");
  const [name, number] = [chosen.slice(0, at), chosen.slice(at + 1)];
  const names = [...new Set([...choices.map((each) => each.name), name])];
  const model = h(
    "select",
    { id: `name-${letter}`, on: { change: refill } },
    names.map((each) => h("option", { value: each, selected: each === name }, each)),
  );
  const version = h("select", { id: `version-${letter}` }, h("option", { value: number }, number));

  function refill() {
    offer([h("option", { value: "" }, "Loading…")]); // not the versions of another model
    fill();
  }

  function offer(options) {
    replace(version, options);
    version.disabled = !version.value;
    changed();
  }

  async function fill(selected = null) {
    const asked = model.value;
    let found = [];
    try {
      found = (await versions({ name: asked, limit: LIMIT }, { signal })).versions;
    } catch (error) {
      if (!(error instanceof Problem)) return; // with a problem, the comparison below says what it is
    }
    if (asked !== model.value) return; // another one was chosen meanwhile
    const { champion, previous } = find(asked) ?? {};
    for (const each of [champion, previous]) if (each && !found.some((other) => other.version === each.version)) found.push(each);
    const options = found.map((each) =>
      h(
        "option",
        { value: each.version, selected: String(each.version) === selected },
        [each.version, ...each.aliases, each.text].filter(Boolean).join(" · "),
      ),
    );
    if (selected && !found.some((each) => String(each.version) === selected))
      options.push(h("option", { value: selected, selected: true }, selected));
    offer(options.length ? options : [h("option", { value: "" }, "none")]);
  }

  fill(number);
  return {
    value: () => `${model.value}@${version.value}`,
    ready: () => version.value !== "",
    element: h(
      "fieldset",
      { class: `side-${letter}` },
      h("legend", {}, letter),
      h("label", { for: `name-${letter}` }, "Registered model"),
      model,
      h("label", { for: `version-${letter}` }, "Version"),
      version,
    ),
  };
}
