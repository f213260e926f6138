// ---------------------------------------------------------------- the page

const DRAWN = [drawQuality, drawSpeedup, drawDistributions, drawTrials, drawSweeps, drawGrowth, drawMemory, drawStart,
  drawSustained, drawPaced, drawPipeline, drawServer, drawEnergy, drawPower, drawRoofline, drawProfile, drawCosts, drawRecommend];

function draw(data, chosen) {
  const d = drawing(data, chosen);
  for (const part of DRAWN) part(d);
}

// Returns what draws them again.
function setUpCharts() {
  const data = JSON.parse(byId("data").textContent);
  if (!data.cases.length) return () => {};
  const models = [...new Set(data.cases.map((c) => c.model))];
  const conditions = [...new Set(data.cases.map((c) => c.condition))];
  const chosen = { model: models[0], run: "", condition: conditions[0], curves: new Set(), tail: false };

  function options(select, values) {
    select.textContent = "";
    for (const [value, text] of values) element("option", text, select).value = value;
  }
  // The conditions that the chosen model was measured under.
  function chooseCondition() {
    const here = conditions.filter((name) => data.cases.some((c) => c.model === chosen.model && c.condition === name));
    if (!here.includes(chosen.condition)) chosen.condition = here[0];
    const select = byId("choose-condition");
    options(select, here.map((name) => [name, name]));
    select.value = chosen.condition;
    select.parentElement.hidden = here.length < 2;
  }
  function chooseCurves() {
    const target = byId("ecdf-cases");
    const cases = data.cases.filter((c) => c.model === chosen.model && c.condition === chosen.condition && (!chosen.run || c.run === chosen.run));
    // At first one case of each backend, its first one: fp32 as a rule.
    chosen.curves = new Set(data.backends.flatMap((name) => cases.filter((c) => c.backend === name).slice(0, 1))
      .slice(0, 4).map((c) => c.anchor));
    target.textContent = "";
    for (const { anchor, name } of cases) {
      const holder = element("label", undefined, target);
      const box = element("input", undefined, holder);
      box.type = "checkbox";
      box.checked = chosen.curves.has(anchor);
      holder.append(name);
      box.addEventListener("change", () => {
        if (box.checked) chosen.curves.add(anchor);
        else chosen.curves.delete(anchor);
        draw(data, chosen);
      });
    }
  }
  function follow(select, field) {
    select.addEventListener("change", () => {
      chosen[field] = select.value;
      chooseCondition();
      chooseCurves();
      draw(data, chosen);
    });
  }

  options(byId("choose-model"), models.map((name) => [name, name]));
  byId("choose-model").parentElement.hidden = models.length < 2;
  follow(byId("choose-model"), "model");
  follow(byId("choose-condition"), "condition");
  if (byId("choose-run")) {
    options(byId("choose-run"), [["", "all"], ...data.runs.map((run) => [run, run])]);
    follow(byId("choose-run"), "run");
  }
  byId("ecdf-tail").addEventListener("change", (event) => {
    chosen.tail = event.target.checked;
    draw(data, chosen);
  });
  byId("choices").hidden = models.length < 2 && data.runs.length < 2 && conditions.length < 2;

  const redraw = () => draw(data, chosen);
  chooseCondition();
  chooseCurves();
  redraw();
  matchMedia(NARROW).addEventListener("change", redraw);
  return redraw;
}

// On paper there is light, room for a page’s width, and nothing to open: all that is folded is printed,
// but for what the charts and the table of cases say already.
function setUpPrint(redraw) {
  const root = document.documentElement;
  let opened = [];
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    opened = [...document.querySelectorAll("details:not([open], .chooser, .as-table, :has(.case-figures))")];
    for (const details of opened) details.open = true;
    redraw();
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    for (const details of opened) details.open = false;
    redraw();
  });
}

// A link to a case, from a chart or its table, opens what it stands in.
function setUpLinks() {
  const reveal = () => {
    const target = byId(location.hash.slice(1));
    if (!target) return;
    for (let holder = target; holder; holder = holder.parentElement) if (holder.tagName === "DETAILS") holder.open = true;
    target.scrollIntoView();
    target.tabIndex = -1;
    target.focus({ preventScroll: true });
  };
  addEventListener("hashchange", reveal);
  reveal();
}

setUpTable();
let redraw = () => {};
setUpScheme(() => redraw());
redraw = setUpCharts();
setUpPrint(redraw);
setUpLinks();
