// ---------------------------------------------------------------- light or dark

// As the system has it, until the button is pressed. ``changed`` is called after every change.
function setUpScheme(changed) {
  const root = document.documentElement, button = byId("scheme");
  const system = matchMedia("(prefers-color-scheme: dark)"), key = `qbench-scheme ${location.pathname}`;
  const dark = () => (root.dataset.scheme ? root.dataset.scheme === "dark" : system.matches);
  const apply = () => {
    button.setAttribute("aria-pressed", String(dark()));
    changed();
  };
  try {
    const kept = localStorage.getItem(key);
    if (kept === "dark" || kept === "light") root.dataset.scheme = kept;
  } catch { /* A file may have no storage: then the choice lasts until the page is left. */ }
  button.addEventListener("click", () => {
    root.dataset.scheme = dark() ? "light" : "dark";
    try {
      localStorage.setItem(key, root.dataset.scheme);
    } catch { /* as above */ }
    apply();
  });
  system.addEventListener("change", apply);
  button.hidden = false;
  button.setAttribute("aria-pressed", String(dark()));
}
