"use strict";
// The page's script, in parts that are one script on the page, in the order of ``PARTS`` in render.py.
// Text from the data reaches the page through text nodes only, and plotly through plain(), for plotly
// reads some markup.

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
    byId("shown").textContent = `${shown} of ${rows.length} ${table.dataset.noun || "cases"}`;
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

// ---------------------------------------------------------------- what all charts share

const SHAPES = [
  ["circle", "●"], ["square", "■"], ["diamond", "◆"], ["triangle-up", "▲"], ["cross", "✚"],
  ["star", "★"], ["triangle-down", "▼"], ["hexagon", "⬢"], ["pentagon", "⬟"], ["x", "✖"],
];
const DASHES = ["", "9,3", "2,2", "9,3,2,3", "16,4", "16,4,2,4", "5,5"];
const dashed = (index) => pick(DASHES, index).replace(/\d+/g, "$&px") || "solid"; // as plotly has it
const NARROW = "(max-width: 599px)";
const PAPER = 960; // pixels, of a page in landscape
const PATTERNS = [["", "■"], ["/", "▨"], ["x", "▩"], ["-", "▤"], ["|", "▥"], ["\\", "▧"]];

const plain = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const pick = (list, index) => list[index % list.length];

// The colours of the style sheet, as they are now, light or dark.
function theme() {
  const probe = element("i", undefined, document.body);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const several = (name, count) => Array.from({ length: count }, (_, index) => colour(`${name}-${index + 1}`));
  const names = ["back", "text", "quiet", "line", "raised", "bad", "slower", "even", "faster"];
  const found = { ...Object.fromEntries(names.map((name) => [name, colour(name)])),
    palette: several("hue", 8), parts: several("part", 4) };
  probe.remove();
  return found;
}

// Short enough for an axis; tooltips and tables have the whole.
const clipped = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
// In two lines at most, of plain() text.
function folded(text, most) {
  const words = text.split(" ");
  let first = words.shift();
  while (words.length && `${first} ${words[0]}`.length <= most) first += ` ${words.shift()}`;
  return [first, words.join(" ")].filter(Boolean).map((line) => plain(clipped(line, most))).join("<br>");
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

// Some four round numbers within [low, high], at equal distances.
function evenly(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(Number((n * step).toPrecision(12)));
  return found.length ? found : [low];
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
  const round = digits.map(ticks).find((found) => found.length && apart(found)) || ticks([1]);
  const values = round.length > 2 ? round : evenly(10 ** (from - room), 10 ** (to + room));
  return { type: "log", range: [from - room, to + room], tickmode: "array", tickangle: 0,
    tickvals: values, ticktext: values.map((value) => value.toLocaleString("en", { maximumFractionDigits: 12 })) };
}

// Of points' labels that overlap, the first is kept; tooltips have them all.
function declutter(target) {
  const kept = [];
  for (const text of target.querySelectorAll(".textpoint text")) {
    const box = text.getBoundingClientRect();
    const free = kept.every((one) => box.left > one.right || box.right < one.left || box.top > one.bottom || box.bottom < one.top);
    text.style.visibility = free ? "" : "hidden";
    if (free) kept.push(box);
  }
}

// What the functions that draw a chart are given: the data, what is chosen, and helpers.
function drawing(data, chosen) {
  const colours = theme();
  const several = data.runs.length > 1;
  const of = (c) => !chosen.run || c.run === chosen.run;
  const all = data.cases.filter((c) => c.model === chosen.model && of(c)); // under any conditions
  const cases = all.filter((c) => c.condition === chosen.condition);
  const backendColour = (name) => pick(colours.palette, data.backends.indexOf(name));
  const colour = (c) => backendColour(c.backend);
  const narrow = matchMedia(NARROW).matches;
  const family = getComputedStyle(document.body).fontFamily;

  const axis = (title, more) => ({
    title: { text: title, font: { size: 12 } }, gridcolor: colours.line, linecolor: colours.line,
    zerolinecolor: colours.line, automargin: true, fixedrange: narrow, ...more,
  });
  const printing = document.documentElement.classList.contains("printing");
  const layout = (height, more) => ({
    height, ...(printing ? { width: PAPER } : { autosize: true }), margin: { l: 46, r: 12, t: 12, b: 48 }, showlegend: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colours.text, size: narrow ? 10 : 12, family },
    hoverlabel: { bgcolor: colours.raised, bordercolor: colours.line, align: "left",
      font: { color: colours.text, family } },
    hovermode: "closest", ...more,
  });
  // Without plotly's buttons: no keyboard reaches them, and one would upload the chart.
  const config = { responsive: true, typesetMath: false, displayModeBar: false, plotlyServerURL: "" };

  // A figure that has nothing to show here is hidden. ``facts``: what ``tell`` is given; the
  // ``customdata`` of a point is the anchor of its case.
  function show(id, traces, form, facts) {
    const target = byId(id);
    target.closest("figure").hidden = !traces.length;
    if (!traces.length) return Plotly.purge(target);
    Plotly.react(target, traces, form, config);
    declutter(target);
    for (const event of ["plotly_click", "plotly_afterplot"]) target.removeAllListeners(event);
    target.on("plotly_afterplot", () => declutter(target));
    target.on("plotly_click", ({ points: [{ customdata }] }) => {
      if (customdata) location.hash = customdata;
    });
    if (facts) tell(id, { about: about(chosen.model, chosen.condition), ...facts });
  }
  // What of the data is drawn, for pictures, paper and names of files.
  const about = (...parts) => [...parts, chosen.run && `run ${chosen.run}`].filter(Boolean).join(", ");

  // What is chosen in a figure's own list, whose entries follow the page's choices.
  function choice(id, values) {
    const select = byId(`${id}-choice`);
    if (!select) return values[0];
    const before = select.value;
    select.textContent = "";
    for (const value of values) element("option", value, select).value = value;
    if (values.includes(before)) select.value = before;
    select.closest(".controls").hidden = values.length < 2;
    select.onchange = () => draw(data, chosen);
    return select.value;
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
  const present = (field, list, some) => list.filter((name) => some.some((c) => c[field] === name));
  const backendEntries = (mark, some = cases) => present("backend", data.backends, some)
    .map((name) => [typeof mark === "string" ? mark : mark(data.backends.indexOf(name)), name, backendColour(name)]);
  const precisionEntries = (mark, some = cases) => present("precision", data.precisions, some)
    .map((name) => [mark(data.precisions.indexOf(name)), name]);
  const runEntries = (entries) => (several && !chosen.run ? entries : []);

  // A line of a tooltip; "" for what was not measured.
  const said = (c, name, title) => (c.texts[name] ? `${title} ${plain(c.texts[name])}` : "");
  // A tooltip's lines, those that are not empty, broken where they are long; of plain() text.
  const long = new RegExp(`((?:&[a-z]+;|[^&]){1,${narrow ? 36 : 60}})(?:\\s+|$)|((?:&[a-z]+;|[^&]){${narrow ? 36 : 60}})`, "g");
  const lines = (...texts) => texts.filter(Boolean).map((line) => line.replace(long, "$1$2<br>").replace(/(<br>)+$/, "")).join("<br>");
  const tip = (c, ...extra) => lines(plain(clipped(c.label, 120)), ...extra, plain(clipped(c.doubt, 300)));
  // The interval of a figure's column, as error bars; none where there is none.
  const bars = (list, { of, low, high }) => low && {
    type: "data", symmetric: false, visible: list.some((c) => low(c) !== null),
    array: list.map((c) => (high(c) === null ? 0 : high(c) - of(c))),
    arrayminus: list.map((c) => (low(c) === null ? 0 : of(c) - low(c))),
    color: colours.quiet, thickness: 1, width: 3,
  };
  // The look of a bar: a pattern besides the colour, for those who cannot tell the colours apart.
  const patterned = (index, shade) => ({ color: shade, pattern: { shape: pick(PATTERNS, index)[0], fillmode: "overlay",
    fgcolor: colours.back, fgopacity: 0.75, size: 7, solidity: 0.3 } });
  const extent = (values) => [Math.min(...values), Math.max(...values)];

  return { data, chosen, about, all, cases, colours, colour, backendColour, narrow, several, of, axis, layout, show,
    choice, legend, backendEntries, precisionEntries, runEntries, said, lines, tip, bars, patterned, extent };
}

// ---------------------------------------------------------------- trends over the nights

function drawTrend(charts, chosen) {
  const d = drawing({ runs: [], cases: [], backends: [], precisions: [] }, {});
  const series = charts.cases[chosen].series;
  const colour = (index) => pick(d.colours.palette, index);
  d.legend("trend-chart", series.map((s, index) => [pick(SHAPES, index)[1], s.machine, colour(index)]));
  const times = (s) => s.nights.map((night) => night.started);
  const values = (s) => s.nights.map((night) => night.value);
  const all = series.flatMap(values);
  const traces = series.flatMap((s, index) => [{
    type: "scatter", mode: "lines", x: times(s), y: s.nights.map((night) => night.level),
    line: { color: colour(index), width: 2, shape: "hv" }, hoverinfo: "skip",
  }, {
    type: "scatter", mode: "markers", x: times(s), y: values(s),
    marker: { color: colour(index), size: d.narrow ? 6 : 8,
      symbol: s.nights.map((night) => pick(SHAPES, index)[0] + (night.smoothed ? "-open" : "")) },
    hoverinfo: "text",
    hovertext: s.nights.map((night) => d.lines(plain(night.run_id), night.started.slice(0, 16).replace("T", " "),
      `${plain(charts.metric)} ${shortened(night.value)} ${plain(charts.unit)}`,
      night.smoothed ? "taken for an outlier" : "")),
  }]);
  const cuts = series.flatMap((s, index) => s.changes.map((change) => ({
    type: "line", yref: "paper", y0: 0, y1: 1, x0: change.started, x1: change.started,
    line: { color: colour(index), width: 1, dash: "dot" },
  })));
  // Over two days at the least: of a single night plotly would show milliseconds.
  const when = series.flatMap(times).map((time) => Date.parse(time)), day = 24 * 3600e3;
  const [first, last] = [Math.min(...when), Math.max(...when)];
  const range = last - first < day ? { range: [first - day, last + day].map((at) => new Date(at).toISOString()) } : {};
  d.show("trend-chart", all.length ? traces : [], d.layout(d.narrow ? 320 : 440, {
    xaxis: d.axis("", { type: "date", ...range }),
    yaxis: d.axis(`${plain(charts.metric)}${charts.unit ? `, ${plain(charts.unit)}` : ""}`),
    shapes: cuts,
  }));
}

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

// ---------------------------------------------------------------- a figure's data

// Every chart is drawn from ``items``, and told by ``columns`` of them: as a table beneath it, and as
// CSV. A column has a ``head``, a ``unit``, what it is ``of`` an item, and where the figure has an
// interval also ``low``, ``high`` and ``text``, which holds it rounded.
const told = new Map(); // by the chart's id: { columns, items, about, brief }
const MOST_ROWS = 300;

const column = (head, unit, of, more = {}) => ({ head, unit, of, ...more });
const word = (head, name) => column(head, "", (item) => item[name]);
// A column of the case table, with its interval if it has one, in the words of ``texts``.
const figureOf = (head, unit, value, ends = [], scale = 1) => {
  const scaled = (name) => (item) => (item[name] === null ? null : Number((scale * item[name]).toPrecision(6)));
  const [low, high] = ends.map(scaled);
  return column(head, unit, scaled(value), { low, high, text: (item) => item.texts[value] });
};

function tell(id, data) {
  const figure = byId(id).closest("figure"), tools = figure.querySelector(".tools");
  if (!tools) return;
  told.set(id, data);
  byId(`${id}-about`).textContent = data.about;
  tools.hidden = false;
  const table = tools.querySelector("details");
  table.ontoggle = () => tabulate(id);
  tabulate(id);
  for (const button of tools.querySelectorAll("button")) button.onclick = () => download(id, button.dataset.as);
}

// The table is made when it is looked at. A case's name leads to the case.
function tabulate(id) {
  const details = byId(id).closest("figure").querySelector(".tools details");
  const holder = details.querySelector(".wide");
  holder.textContent = "";
  if (!details.open) return;
  const { columns, items } = told.get(id).brief || told.get(id);
  const table = element("table", undefined, holder);
  table.className = "figures";
  const head = element("tr", undefined, element("thead", undefined, table));
  for (const { head: title, unit, of } of columns) {
    const cell = element("th", title, head);
    cell.scope = "col";
    if (items.some((item) => typeof of(item) === "number")) cell.className = "number";
    if (unit) element("span", ` ${unit}`, cell).className = "unit";
  }
  const body = element("tbody", undefined, table);
  for (const item of items.slice(0, MOST_ROWS)) {
    const row = element("tr", undefined, body);
    for (const { head: title, of, text } of columns) {
      const value = of(item), cell = element("td", undefined, row);
      if (typeof value === "number") cell.className = "number";
      const shown = value === null || value === undefined || value === "" ? "–"
        : text?.(item) ?? (typeof value === "number" ? shortened(value) : value);
      if (title === "case" && item.anchor) element("a", shown, cell).href = `#${item.anchor}`;
      else element("bdi", shown, cell);
    }
  }
  if (items.length > MOST_ROWS) element("p", `The first ${MOST_ROWS} of ${items.length} rows; the CSV holds them all.`, holder).className = "quiet";
}

// ---------------------------------------------------------------- downloads

// What a spreadsheet would take for a formula gets an apostrophe before it, as in ``qbench export``.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^'*[=+\-@＝＋－＠\t\r\n]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function csv({ columns, items }) {
  const plainly = columns.flatMap(({ head, unit, of, low, high }) => [
    [head, of], ...(low ? [[`${head} low`, low], [`${head} high`, high]] : []),
  ].map(([name, value]) => [unit ? `${name} (${unit})` : name, value]));
  const lines = [plainly.map(([name]) => name), ...items.map((item) => plainly.map(([, of]) => of(item)))];
  return lines.map((line) => `${line.map(csvCell).join(",")}\r\n`).join("");
}

const fileName = (...parts) =>
  parts.map((part) => part.replace(/[^A-Za-z0-9._]+/g, "-").replace(/^[-.]+|-+$/g, "").slice(0, 60)).filter(Boolean).join("-");

function save(name, content) {
  const link = element("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function download(id, as) {
  const data = told.get(id), name = `${fileName("qbench", id.replace(/-chart$/, ""), data.about)}.${as}`;
  if (as === "csv") save(name, new Blob([csv(data)], { type: "text/csv;charset=utf-8" }));
  else save(name, await picture(id, as));
}

// ---------------------------------------------------------------- a chart as a picture

// With its title and its legend, which stand beside the chart on the page. A Blob, SVG or PNG.
async function picture(id, as) {
  const chart = byId(id), figure = chart.closest("figure"), colours = theme();
  const width = 1000, edge = 16, family = getComputedStyle(document.body).fontFamily;
  const drawn = await Plotly.toImage(chart, { format: "svg", width: width - 2 * edge, height: chart.offsetHeight });
  const plot = new DOMParser().parseFromString(decodeURIComponent(drawn.slice(drawn.indexOf(",") + 1)), "image/svg+xml").documentElement;
  const space = "http://www.w3.org/2000/svg";
  const make = (name, attributes, parent) => {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };
  const whole = make("svg", { xmlns: space, width, "font-family": family });
  const ground = make("rect", { width, fill: colours.back }, whole);
  const write = (text, x, y, size, fill) => {
    make("text", { x, y, fill, "font-size": size }, whole).textContent = text;
  };
  const ruler = document.createElement("canvas").getContext("2d");
  const long = (text, size) => {
    ruler.font = `${size}px ${family}`;
    return ruler.measureText(text).width;
  };
  write(figure.querySelector("h3").textContent, edge, 30, 18, colours.text);
  write(told.get(id).about.slice(0, 140), edge, 50, 13, colours.quiet);
  let x = edge, y = 74;
  for (const entry of byId(`${id}-legend`).children) {
    const mark = entry.firstElementChild, line = mark.querySelector("line"), name = entry.lastChild.textContent;
    const room = 40 + long(name, 13);
    if (x + room > width - edge && x > edge) [x, y] = [edge, y + 20];
    if (line) make("line", { x1: x, x2: x + 32, y1: y - 4, y2: y - 4, stroke: getComputedStyle(mark).color, "stroke-width": 1.5, "stroke-dasharray": line.getAttribute("stroke-dasharray") }, whole);
    else write(mark.textContent, x + 10, y, 13, getComputedStyle(mark).color);
    write(name, x + (line ? 34 : 24), y, 13, colours.text);
    x += room + 12;
  }
  const height = y + 16 + chart.offsetHeight;
  for (const [key, value] of Object.entries({ x: edge, y: y + 10 })) plot.setAttribute(key, value);
  whole.append(plot);
  whole.setAttribute("height", height);
  whole.setAttribute("viewBox", `0 0 ${width} ${height}`);
  ground.setAttribute("height", height);
  const text = new XMLSerializer().serializeToString(whole);
  return as === "svg" ? new Blob([text], { type: "image/svg+xml" }) : painted(text, width, height);
}

// At two dots for a pixel, fit for print.
async function painted(svg, width, height) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * width, 2 * height];
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

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
