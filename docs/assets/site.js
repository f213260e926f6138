// Wide tables scroll by themselves; with this, by the keyboard, too, in every browser.
window.addEventListener("load", () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) box.tabIndex = 0;
});
