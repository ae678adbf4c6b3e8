// A list that the service gives a page at a time, and that is asked for again when something has changed.

import { Problem } from "./api.js";
import { h, problem, replace } from "./dom.js";
import { told } from "./frame.js";

const LIMIT = 50;

/**
 * Return a function that asks anew for as many items as are shown, at first for a page. What is shown stays until the answer is there.
 *
 * `ask` is called with the last item that is known (none at first) and a limit, and returns `items` and whether there are `more`.
 * `draw` is called with all items and with `more`, and returns what `foot` says below them. A button called `older` asks for the page
 * before. Then the first item that it has added gets the focus, which `at` returns by its number; without one what `foot` offers then, or
 * the last item.
 */
export function pages(foot, older, { ask, draw, at }) {
  let shown = [];
  let turn = Promise.resolve();
  const inTurn = (work) => (turn = turn.then(work)); // answers that overtake each other would repeat items, or misorder them

  async function load(found, wanted, again) {
    let more;
    try {
      do {
        const page = await ask(found.at(-1), LIMIT);
        found = [...found, ...page.items];
        more = page.more;
      } while (more && found.length < wanted);
    } catch (error) {
      if (!(error instanceof Problem)) return; // the view has been left
      return replace(foot, problem(told(error)), button("Try again", () => (wait(), again())));
    }
    shown = found;
    replace(foot, draw(shown, more), more && button(older, add));
  }

  const reload = () => inTurn(() => load([], shown.length, reload));

  function add() {
    return inTurn(async () => {
      const first = shown.length;
      wait();
      await load(shown, first + 1, add);
      (at(first) ?? foot.querySelector("a, button") ?? at(first - 1))?.focus();
    });
  }

  function wait() {
    replace(foot, h("span", { class: "quiet" }, "Loading…"));
  }

  wait();
  return reload;
}

function button(text, click) {
  return h("button", { type: "button", "data-key": text, on: { click } }, text);
}
