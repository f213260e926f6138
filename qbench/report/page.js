"use strict";
// Sorting and filtering of the case table, and the charts. Text from the data reaches the page
// through text nodes only, and plotly through plain(), for plotly reads some markup.

const byId = (id) => document.getElementById(id);

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Three significant digits, without an exponent, as in the table.
function shortened(value) {
  if (value === null) return "–";
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(Number(value.toPrecision(3))))));
  return Number(value.toPrecision(3)).toLocaleString("en", {
    minimumFractionDigits: Math.min(20, digits), maximumFractionDigits: Math.min(20, digits) });
}

// ---------------------------------------------------------------- the case table

// What is chosen also stands in the address (#status=ok&sort=-latency_p50_ms), to be passed on.
function setUpTable() {
  const table = byId("cases"), form = byId("filters"), search = byId("filter-text");
  const selects = [...form.querySelectorAll("select")];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const asked = new URLSearchParams(location.hash.slice(1));
  let sort = asked.get("sort") || "";

  const matches = (value, wanted) => wanted.startsWith("!") ? value !== wanted.slice(1) : value === wanted;

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        selects.every((select) => !select.value || matches(row.dataset[select.dataset.column], select.value)) &&
        words.every((word) => text.includes(word))
      );
      shown += !row.hidden;
    }
    byId("shown").textContent = `${shown} of ${rows.length} cases`;
  }

  function order() {
    const name = sort.replace(/^-/, ""), sign = sort.startsWith("-") ? -1 : 1;
    const column = heads.findIndex((head) => head.dataset.name === name);
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const number = column >= 0 && heads[column].classList.contains("number");
    const value = (row) => row.cells[column].dataset.sort;
    const compare = (a, b) => {
      const x = value(a), y = value(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (number ? x - y : x.localeCompare(y, "en", { numeric: true }));
    };
    table.tBodies[0].append(...(column < 0 ? rows : [...rows].sort(compare)));
  }

  function remember() {
    const state = new URLSearchParams();
    if (search.value) state.set("q", search.value);
    for (const select of selects) if (select.value !== usual(select)) state.set(select.dataset.column, select.value);
    if (sort) state.set("sort", sort);
    history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
  }

  const usual = (select) => [...select.options].find((option) => option.defaultSelected)?.value || "";

  search.value = asked.get("q") || "";
  for (const select of selects) {
    const value = asked.get(select.dataset.column);
    if ([...select.options].some((option) => option.value === value)) select.value = value;
  }
  form.hidden = false;
  form.addEventListener("input", () => { filter(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const head of heads) {
    head.firstElementChild.addEventListener("click", () => {
      const name = head.dataset.name;
      sort = sort === name ? `-${name}` : sort === `-${name}` ? "" : name;
      order();
      remember();
    });
  }
  order();
  filter();
}

// ---------------------------------------------------------------- the charts

// Okabe and Ito's palette, which most colour-blind readers can tell apart; paler on dark.
const PALETTE = {
  light: ["#0072b2", "#d55e00", "#009e73", "#c2608f", "#b58900", "#3a3f47", "#56b4e9", "#8c564b"],
  dark: ["#56b4e9", "#ff9a4d", "#2ec79a", "#e39ac5", "#f0e442", "#c9d1d9", "#8ab4ff", "#d7a48f"],
};
// Parts of a bar, where colour does not stand for a backend.
const PARTS = { light: ["#3d4d66", "#8fa0b8", "#e08e1b"], dark: ["#dbe4ef", "#7f90a8", "#ffb454"] };
const SHAPES = [
  ["circle", "●"], ["square", "■"], ["diamond", "◆"], ["triangle-up", "▲"], ["cross", "✚"],
  ["star", "★"], ["triangle-down", "▼"], ["hexagon", "⬢"], ["pentagon", "⬟"], ["x", "✖"],
];
const DASHES = ["", "9,3", "2,2", "9,3,2,3", "16,4", "16,4,2,4", "5,5"];
const PATTERNS = [["", "■"], ["/", "▨"], ["x", "▩"], ["-", "▤"], ["|", "▥"], ["\\", "▧"]];

const plain = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const pick = (list, index) => list[index % list.length];

function theme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const printing = document.documentElement.classList.contains("printing");
  const dark = !printing && matchMedia("(prefers-color-scheme: dark)").matches;
  return {
    back: value("--back"), text: value("--text"), quiet: value("--quiet"), line: value("--line"), raised: value("--raised"),
    palette: PALETTE[dark ? "dark" : "light"], parts: PARTS[dark ? "dark" : "light"],
  };
}

// A short line of a pattern, for legends.
function dash(pattern) {
  const space = "http://www.w3.org/2000/svg";
  const image = document.createElementNS(space, "svg"), line = document.createElementNS(space, "line");
  for (const [name, value] of Object.entries({ width: 34, height: 10 })) image.setAttribute(name, value);
  const look = { x1: 0, x2: 34, y1: 5, y2: 5, stroke: "currentColor", "stroke-width": 1.5, "stroke-dasharray": pattern || "none" };
  for (const [name, value] of Object.entries(look)) line.setAttribute(name, value);
  image.append(line);
  return image;
}

// A logarithmic axis over [low, high] with round numbers written out.
function logarithmic(low, high, narrow) {
  const from = Math.log10(low), to = Math.log10(high), room = Math.max(0.03, 0.04 * (to - from));
  const ticks = (digits) => {
    const found = [];
    for (let power = Math.floor(from) - 1; power <= Math.ceil(to); power++) {
      for (const digit of digits) {
        const value = Number(`${digit}e${power}`);
        if (value >= low / 10 ** room && value <= high * 10 ** room) found.push(value);
      }
    }
    return found;
  };
  const least = (to - from + 2 * room) / (narrow ? 8 : 18); // room for a label
  const apart = (values) => values.every((value, i) => !i || Math.log10(value / values[i - 1]) >= least);
  const digits = [[1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9], [1, 1.5, 2, 3, 4, 5, 7], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]];
  const values = digits.map(ticks).find((found) => found.length && apart(found)) || ticks([1]);
  return { type: "log", range: [from - room, to + room], tickmode: "array", tickangle: 0,
    tickvals: values, ticktext: values.map((value) => value.toLocaleString("en", { maximumFractionDigits: 12 })) };
}

function draw(data, chosen) {
  const colours = theme();
  const runs = data.runs.length > 1;
  const cases = data.cases.filter(
    (c) => c.model === chosen.model && (!chosen.run || c.run === chosen.run));
  const colour = (c) => pick(colours.palette, data.backends.indexOf(c.backend));
  const shape = (c) => {
    const name = pick(SHAPES, data.precisions.indexOf(c.precision))[0];
    return data.runs.indexOf(c.run) % 2 ? `${name}-open` : name;
  };
  const narrow = innerWidth < 600;

  const axis = (title, more) => ({
    title: { text: title, font: { size: 12 } }, gridcolor: colours.line, linecolor: colours.line,
    zerolinecolor: colours.line, automargin: true, fixedrange: narrow, ...more,
  });
  const layout = (height, more) => ({
    height, margin: { l: 46, r: 12, t: 12, b: 48 }, showlegend: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colours.text, size: narrow ? 10 : 12, family: getComputedStyle(document.body).fontFamily },
    hoverlabel: { bgcolor: colours.raised, bordercolor: colours.line, align: "left",
      font: { color: colours.text, family: getComputedStyle(document.body).fontFamily } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.quiet, activecolor: colours.text },
    hovermode: "closest", ...more,
  });
  const config = {
    responsive: true, typesetMath: false, displaylogo: false, displayModeBar: narrow ? false : "hover",
    // Named one by one, and no server: by default plotly adds a button that uploads the chart.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d"]], plotlyServerURL: "",
  };

  function show(id, traces, form, empty) {
    const target = byId(id);
    target.classList.toggle("empty", !traces.length);
    if (traces.length) {
      if (target.firstElementChild && target.firstElementChild.tagName === "P") target.textContent = "";
      Plotly.react(target, traces, form, config);
    } else {
      Plotly.purge(target);
      target.textContent = "";
      element("p", empty, target).className = "quiet";
    }
  }

  function legend(id, entries) {
    const target = byId(`${id}-legend`);
    target.textContent = "";
    for (const [glyph, name, shade] of entries) {
      const entry = element("span", undefined, target);
      const mark = element("i", undefined, entry);
      mark.append(glyph);
      mark.style.color = shade || colours.text;
      entry.append(` ${name}`);
    }
  }
  const present = (field, list) => list.filter((name) => cases.some((c) => c[field] === name));
  const backendEntries = (glyph) => present("backend", data.backends)
    .map((name) => [glyph, name, pick(colours.palette, data.backends.indexOf(name))]);
  const precisionEntries = (mark) => present("precision", data.precisions)
    .map((name) => [mark(data.precisions.indexOf(name)), name]);
  const runEntries = (entries) => (runs && !chosen.run ? entries : []);

  const range = (value, low, high, unit) => value === null ? null :
    shortened(value) + (low === null ? "" : ` (${shortened(low)} … ${shortened(high)})`) + ` ${unit}`;
  const lines = (c, extra) => [
    plain(c.label), ...extra.filter(Boolean), c.noisy ? `noisy: ${plain(c.noise_reason)}` : "",
  ].filter(Boolean).map((line) => line.replace(/(.{60}\S*)\s/g, "$1<br>")).join("<br>");
  const bars = (list, value, low, high) => ({
    type: "data", symmetric: false, visible: list.some((c) => c[low] !== null),
    array: list.map((c) => (c[high] === null ? 0 : c[high] - c[value])),
    arrayminus: list.map((c) => (c[low] === null ? 0 : c[value] - c[low])),
    color: colours.quiet, thickness: 1, width: 3,
  });

  // Latency against accuracy, or against SQNR where there are no labels.
  const labelled = cases.some((c) => c.accuracy !== null);
  const quality = labelled ? "accuracy" : "sqnr_db";
  const points = cases.filter((c) => c[quality] !== null && c.latency_p50_ms > 0);
  const scale = labelled ? 100 : 1;
  const metric = [...new Set(points.map((c) => c.accuracy_metric))].filter(Boolean).map(plain).join(", ");
  legend("accuracy-chart", [...backendEntries("●"), ...precisionEntries((index) => pick(SHAPES, index)[1]),
    ...runEntries(data.runs.map((run, index) => [index % 2 ? "○" : "●", `run ${run}`]))]);
  show("accuracy-chart", points.length ? [{
    type: "scatter", mode: "markers", x: points.map((c) => c.latency_p50_ms),
    y: points.map((c) => scale * c[quality]),
    error_x: bars(points, "latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms"),
    error_y: labelled ? {
      ...bars(points, "accuracy", "accuracy_low", "accuracy_high"),
      array: points.map((c) => 100 * (c.accuracy_high - c.accuracy)),
      arrayminus: points.map((c) => 100 * (c.accuracy - c.accuracy_low)),
    } : undefined,
    marker: { size: narrow ? 10 : 12, color: points.map(colour), symbol: points.map(shape),
      line: { width: 1, color: colours.text }, opacity: 0.9 },
    hoverinfo: "text",
    hovertext: points.map((c) => lines(c, [
      `p50 ${range(c.latency_p50_ms, c.latency_p50_low_ms, c.latency_p50_high_ms, "ms")}, p99 ${shortened(c.latency_p99_ms)} ms`,
      c.accuracy === null ? "" : `accuracy ${(100 * c.accuracy).toFixed(1)} %`,
      c.sqnr_db === null ? "" : `SQNR ${c.sqnr_db.toFixed(0)} dB`,
      c.speedup === null ? "" : `speed-up ${range(c.speedup, c.speedup_low, c.speedup_high, "×")}`,
      c.effective_precision === null ? "" : `ran at ${plain(c.effective_precision)}`,
      `${c.rounds} rounds`])),
  }] : [], layout(narrow ? 340 : 440, {
    xaxis: axis("p50 latency, ms (log)", logarithmic(
      Math.min(...points.map((c) => c.latency_p50_low_ms ?? c.latency_p50_ms)),
      Math.max(...points.map((c) => c.latency_p50_high_ms ?? c.latency_p50_ms)), narrow)),
    yaxis: axis(labelled ? `accuracy (${metric}), %` : "SQNR against fp32, dB"),
  }), "No case of this model has an accuracy or a fidelity.");

  // Speed-up by precision, grouped by backend (and run).
  const quick = cases.filter((c) => c.speedup !== null)
    .sort((a, b) => data.precisions.indexOf(a.precision) - data.precisions.indexOf(b.precision));
  const kind = (c) => plain(c.kind);
  const kinds = [...new Set(quick.map(kind))];
  const groups = new Map();
  for (const c of quick) {
    const key = JSON.stringify([c.run, c.backend]);
    groups.set(key, [...(groups.get(key) || []), c]);
  }
  legend("speedup-chart", [...backendEntries("■").filter(([, name]) => quick.some((c) => c.backend === name)),
    ...runEntries(data.runs.map((run, index) => [pick(PATTERNS, index)[1], `run ${run}`]))]);
  const place = ([first]) => data.backends.indexOf(first.backend) * data.runs.length + data.runs.indexOf(first.run);
  show("speedup-chart", [...groups.values()].sort((a, b) => place(a) - place(b)).map((list) => ({
    type: "bar", x: list.map(kind), y: list.map((c) => c.speedup),
    marker: { color: colour(list[0]),
      pattern: { shape: pick(PATTERNS, data.runs.indexOf(list[0].run))[0], fillmode: "overlay",
        fgcolor: colours.back, fgopacity: 0.75, size: 7, solidity: 0.35 } },
    error_y: { ...bars(list, "speedup", "speedup_low", "speedup_high"), color: colours.text },
    hoverinfo: "text",
    hovertext: list.map((c) => lines(c, [`speed-up ${range(c.speedup, c.speedup_low, c.speedup_high, "×")}`])),
    text: list.map((c) => (narrow || groups.size > data.backends.length ? "" : c.speedup.toFixed(2))), textposition: "inside", insidetextanchor: "start",
    textangle: 0,
  })), layout(narrow ? 300 : 360, {
    barmode: "group", bargap: 0.25,
    xaxis: axis("", { type: "category", categoryorder: "array", categoryarray: kinds }),
    yaxis: axis("speed-up, × fp32", { rangemode: "tozero" }),
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: colours.text, width: 1.5, dash: "dash" } }],
  }), "No speed-up: fp32 or another precision of the same backend was not measured.");

  // Distributions.
  const curves = cases.filter((c) => chosen.curves.has(c.label));
  const share = (ms, index) => (index + 1) / ms.length;
  const last = (ms) => ms[chosen.tail ? ms.length - 1 : Math.floor(0.99 * (ms.length - 1))];
  const timings = curves.flatMap((c) => c.trials.map((trial) => trial.ms));
  legend("ecdf-chart", [
    ...backendEntries("●").filter(([, name]) => curves.some((c) => c.backend === name)),
    ...precisionEntries((index) => dash(pick(DASHES, index))).filter(([, name]) => curves.some((c) => c.precision === name))]);
  show("ecdf-chart", curves.flatMap((c) => c.trials.map((trial) => ({
    type: "scatter", mode: "lines", x: trial.ms,
    y: trial.ms.map((_, index) => share(trial.ms, index)),
    line: { width: 1, color: colour(c), shape: "hv",
      dash: pick(DASHES, data.precisions.indexOf(c.precision)).replace(/\d+/g, "$&px") || "solid" },
    hoverinfo: "text",
    hovertext: trial.ms.map((ms, index) =>
      `${plain(c.label)}, round ${trial.round}<br>${(100 * share(trial.ms, index)).toFixed(1)} % of calls took at most ${shortened(ms)} ms`),
  }))), layout(narrow ? 320 : 400, {
    xaxis: axis("latency of a call, ms (log)", timings.length ? logarithmic(
      Math.min(...timings.map((ms) => ms[0])), Math.max(...timings.map(last)), narrow) : {}),
    yaxis: axis("share of calls", { range: [0, 1.02], tickformat: ".0%" }),
  }), "Choose a case.");

  // Start-up and memory, a bar for each case.
  const names = cases.map((c) => plain(c.label)).reverse();
  const tall = 90 + 24 * cases.length;
  const stack = (fields, unit, shades) => fields
    .filter(([field]) => cases.some((c) => c[field] !== null))
    .map(([field, title], index) => ({
      type: "bar", orientation: "h", y: [...cases].reverse().map((c) => plain(c.label)),
      x: [...cases].reverse().map((c) => c[field]), marker: { color: shades[index] },
      hoverinfo: "text", textposition: "none",
      hovertext: [...cases].reverse().map((c) => `${plain(c.label)}<br>${title}: ${c[field] === null ? "–" : shortened(c[field])} ${unit}`),
    }));
  const side = { type: "category", categoryorder: "array", categoryarray: names, tickfont: { size: narrow ? 9 : 11 } };
  const start = [["import_ms", "import the runtime"], ["load_ms", "load the model"], ["first_inference_ms", "first inference"]];
  const memory = [["memory_load_peak_mb", "peak while loading"], ["memory_peak_mb", "peak while running"]];
  const { parts } = colours;
  legend("start-chart", start.map(([, title], index) => ["■", title, parts[index]]));
  show("start-chart", stack(start, "ms", parts), layout(tall, {
    barmode: "stack", bargap: 0.3, xaxis: axis("ms"), yaxis: axis("", side) }), "Not measured.");
  legend("memory-chart", memory.map(([, title], index) => ["■", title, parts[index]]));
  show("memory-chart", stack(memory, "MB", parts).reverse(), layout(tall, {
    barmode: "group", bargap: 0.25, xaxis: axis("MB"), yaxis: axis("", side) }), "Not measured.");
}

function setUpCharts() {
  const data = JSON.parse(byId("data").textContent);
  if (!data.cases.length) return;
  const models = [...new Set(data.cases.map((c) => c.model))];
  const chosen = { model: models[0], run: "", curves: new Set(), tail: false };

  function option(select, value, text) {
    element("option", text, select).value = value;
  }
  function chooseCurves() {
    const target = byId("ecdf-cases");
    const cases = data.cases.filter((c) => c.model === chosen.model && (!chosen.run || c.run === chosen.run));
    const labels = cases.map((c) => c.label);
    // At first one case of each backend, its first one: fp32 as a rule.
    chosen.curves = new Set(data.backends.flatMap((name) => cases.filter((c) => c.backend === name).slice(0, 1))
      .slice(0, 4).map((c) => c.label));
    target.textContent = "";
    for (const label of labels) {
      const holder = element("label", undefined, target);
      const box = element("input", undefined, holder);
      box.type = "checkbox";
      box.checked = chosen.curves.has(label);
      holder.append(label);
      box.addEventListener("change", () => {
        if (box.checked) chosen.curves.add(label);
        else chosen.curves.delete(label);
        draw(data, chosen);
      });
    }
  }
  function follow(select, field) {
    select.addEventListener("change", () => {
      chosen[field] = select.value;
      chooseCurves();
      draw(data, chosen);
    });
  }

  for (const model of models) option(byId("choose-model"), model, model);
  follow(byId("choose-model"), "model");
  if (byId("choose-run")) {
    option(byId("choose-run"), "", "all");
    for (const run of data.runs) option(byId("choose-run"), run, run);
    follow(byId("choose-run"), "run");
  }
  byId("ecdf-tail").addEventListener("change", (event) => {
    chosen.tail = event.target.checked;
    draw(data, chosen);
  });
  byId("choices").hidden = models.length < 2 && data.runs.length < 2;

  const body = byId("start-table").tBodies[0];
  for (const c of data.cases) {
    const row = element("tr", undefined, body);
    element("td", c.model, row);
    element("td", c.label, row);
    for (const field of ["import_ms", "load_ms", "first_inference_ms", "memory_load_peak_mb", "memory_peak_mb"]) {
      element("td", shortened(c[field]), row).className = "number";
    }
  }

  const redraw = () => draw(data, chosen);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); redraw(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); redraw(); });
  chooseCurves();
  redraw();
}

setUpTable();
setUpCharts();
