// ---------------------------------------------------------------- light or dark

// As the system has it, until the button is pressed: for this page, or for all pages of its site.
// ``changed`` is called after every change.
function setUpScheme(changed) {
  const root = document.documentElement, button = byId("scheme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const place = root.dataset.site ? new URL(root.dataset.site, location.href).pathname : location.pathname;
  const key = `qbench-scheme ${place}`;
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
