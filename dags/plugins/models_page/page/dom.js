// Build nodes. Data becomes text or attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return a new HTML element.
 *
 * attributes: `on` is an object of event listeners, `vars` one of CSS properties, which a policy without inline styles allows only
 * this way; true is an attribute without a value; null, undefined and false are left out.
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return a new SVG element, with attributes as in `h`. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, { on = {}, vars = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  for (const [name, value] of Object.entries(vars)) element.style.setProperty(name, value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace the children of an element. An element with the same `data-key` as the focused one gets the focus. */
export function replace(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** Return a sentence, of texts and links, that says what went wrong. */
export function problem(...words) {
  return h("p", { class: "problem" }, words);
}

/** Return the name of a framework with its colour. */
export function framework(name, colour) {
  return h(
    "span",
    { class: "framework" },
    h("span", { class: "swatch", "aria-hidden": "true", vars: { "--colour": colour ?? "gray" } }),
    name,
  );
}

/** Return the aliases of a version, as small labels. */
export function badges(aliases) {
  return aliases.map((alias) => h("span", { class: `badge ${alias}` }, alias));
}
