// ---------------------------------------------------------------- the trends of a model or a backend

// A series as the history's page has it: see trends.compact in Python.
function unpacked(series, runs) {
  const level = (index) => series.levels.findLast(([from]) => from <= index)[1];
  const nights = series.nights.map((place, index) => ({
    run_id: runs[place][0], started: runs[place][1], value: series.values[index],
    smoothed: series.smoothed.includes(index), level: level(index),
  }));
  return { machine: series.machine, nights, changes: series.levels.slice(1).map(([index]) => nights[index]) };
}

function setUpTrends(data) {
  const chooseCase = byId("choose-case"), chooseMetric = byId("choose-metric");
  data.cases.forEach((c, index) => { element("option", c.label, chooseCase).value = index; });

  function offer() {
    const before = chooseMetric.value;
    chooseMetric.textContent = "";
    const own = data.cases[Number(chooseCase.value)].metrics.map(([name]) => name);
    for (const name of own) element("option", name, chooseMetric).value = name;
    if (own.includes(before)) chooseMetric.value = before;
  }
  function redraw() {
    const chosen = data.cases[Number(chooseCase.value)];
    const [metric, found] = chosen.metrics.find(([name]) => name === chooseMetric.value);
    const [, unit] = data.metrics.find(([name]) => name === metric);
    const series = found.map((one) => unpacked(one, data.runs));
    drawTrend({ metric, unit, cases: [{ label: chosen.label, series }] }, 0);
    tell("trend-chart", { about: chosen.label, columns: [
      column("started", "", (night) => night.started.slice(0, 16).replace("T", " ")), word("run", "run_id"),
      word("machine", "machine"), column(metric, unit, (night) => night.value),
    ], items: series.flatMap(({ machine, nights }) => nights.map((night) => ({ ...night, machine }))) });
  }
  chooseCase.addEventListener("change", () => { offer(); redraw(); });
  chooseMetric.addEventListener("change", redraw);
  addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); redraw(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); redraw(); });
  offer();
  redraw();
  return redraw;
}

setUpTable();
const trends = JSON.parse(byId("data").textContent);
let redraw = () => {};
setUpScheme(() => redraw());
if (trends.cases.length) redraw = setUpTrends(trends);
