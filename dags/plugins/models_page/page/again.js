// Loads the page once more if one of its files did not arrive. A browser drops what it is asking for whenever a network interface
// appears or vanishes, as one does with every container. This is no module: it has to be there before the modules are asked for.

addEventListener(
  "error",
  ({ target }) => {
    if (!(target instanceof HTMLScriptElement)) return;
    if (performance.getEntriesByType("navigation")[0].type !== "reload") location.reload();
    else document.querySelector("main").textContent = "A file of this page did not arrive. Reload the page.";
  },
  true, // such an event does not bubble
);
