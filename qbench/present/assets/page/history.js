// ---------------------------------------------------------------- the page of trends

function setUpTrend() {
  const charts = JSON.parse(byId("data").textContent);
  const select = byId("choose-case");
  charts.cases.forEach((c, index) => { element("option", c.label, select).value = index; });
  select.closest(".controls").hidden = charts.cases.length < 2;
  const redraw = () => drawTrend(charts, Number(select.value));
  select.addEventListener("change", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); redraw(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); redraw(); });
  redraw();
}

setUpTrend();
