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

// ---------------------------------------------------------------- charts of cases alike

// What tells a case, as columns of a figure's data.
const whose = (d) => [...(d.several ? [word("run", "run")] : []), word("model", "model"), word("case", "label")];
const P50 = figureOf("p50", "ms", "latency_p50_ms", ["latency_p50_low_ms", "latency_p50_high_ms"]);
const PLACES = { front: "on the front", undecided: "not told apart from the front", dominated: "dominated" };
const SIZES = { front: 15, undecided: 11, dominated: 7 };

// Latency against accuracy, or against SQNR where there are no labels, with the Pareto front.
function drawQuality(d) {
  const { data, cases, colours, narrow } = d;
  const labelled = cases.some((c) => c.accuracy !== null);
  const quality = labelled
    ? figureOf("accuracy", "%", "accuracy", ["accuracy_low", "accuracy_high"], 100) : figureOf("SQNR", "dB", "sqnr_db");
  const points = cases.filter((c) => quality.of(c) !== null && c.latency_p50_ms > 0);
  if (!points.length) return d.show("accuracy-chart", [], {});
  const metric = [...new Set(points.map((c) => c.accuracy_metric))].filter(Boolean).map(plain).join(", ");
  const shape = (c) => {
    const name = pick(SHAPES, data.precisions.indexOf(c.precision))[0];
    return name + (c.doubt ? "-open" : "") + (data.runs.indexOf(c.run) % 2 ? "-dot" : "");
  };
  const across = logarithmic(Math.min(...points.map((c) => c.latency_p50_low_ms ?? c.latency_p50_ms)),
    Math.max(...points.map((c) => c.latency_p50_high_ms ?? c.latency_p50_ms)), narrow);
  const bottom = Math.min(...points.map((c) => quality.low?.(c) ?? quality.of(c)));
  // Of each run, what can be had: at a latency, the best that the front has up to there.
  const fronts = data.runs.flatMap((run, index) => {
    const front = points.filter((c) => c.run === run && c.place === "front").sort((a, b) => a.latency_p50_ms - b.latency_p50_ms);
    if (!front.length) return [];
    return [{ type: "scatter", mode: "lines", hoverinfo: "skip",
      x: [front[0].latency_p50_ms, ...front.map((c) => c.latency_p50_ms), 10 ** across.range[1]],
      y: [bottom, ...front.map(quality.of), quality.of(front[front.length - 1])],
      line: { shape: "hv", width: 1.5, color: colours.quiet, dash: dashed(index) } }];
  });
  d.legend("accuracy-chart", [...d.backendEntries("●"), ...d.precisionEntries((index) => pick(SHAPES, index)[1]),
    ...d.runEntries(data.runs.map((run, index) => [index % 2 ? "⊙" : "●", `run ${run}`])),
    [dash(""), "front"], ["⬤", "on it"], ["●", "not told apart from it"], ["•", "dominated"], ["○", "in doubt"]]);
  d.show("accuracy-chart", [...fronts, {
    type: "scatter", mode: "markers", cliponaxis: false, x: points.map((c) => c.latency_p50_ms), y: points.map(quality.of),
    customdata: points.map((c) => c.anchor),
    error_x: d.bars(points, P50), error_y: d.bars(points, quality),
    marker: { size: points.map((c) => SIZES[c.place] - (narrow ? 2 : 0)), color: points.map(d.colour), symbol: points.map(shape), opacity: 0.9,
      line: { width: points.map((c) => (c.doubt ? 2.5 : 1)),
        color: points.map((c) => (c.doubt ? d.colour(c) : colours.text)) } },
    hoverinfo: "text",
    hovertext: points.map((c) => d.tip(c, d.said(c, "latency_p50_ms", "p50"), d.said(c, "latency_p99_ms", "p99"),
      d.said(c, "accuracy", "accuracy"), d.said(c, "sqnr_db", "SQNR"), d.said(c, "speedup", "speed-up"),
      c.effective_precision === null ? "" : `ran at ${plain(c.effective_precision)}`,
      `${PLACES[c.place]}; ${c.rounds} rounds`)),
  }], d.layout(narrow ? 340 : 440, {
    xaxis: d.axis("p50 latency, ms (log)", across),
    yaxis: d.axis(labelled ? `accuracy (${clipped(metric, 40)}), %` : "SQNR against fp32, dB"),
  }), { items: points, columns: [...whose(d), P50, quality, column("Pareto", "", (c) => PLACES[c.place]), word("in doubt", "doubt")] });
}

// Cumulative distributions, a line for each trial: of calls, or of frames.
const share = (ms, index) => (index + 1) / ms.length;
function distributions(d, some, unit) {
  const lines = some.flatMap((c) => c.trials.map((trial) => ({
    type: "scatter", mode: "lines", x: trial.ms, customdata: trial.ms.map(() => c.anchor),
    y: trial.ms.map((_, index) => share(trial.ms, index)),
    line: { width: 1, color: d.colour(c), shape: "hv", dash: dashed(d.data.precisions.indexOf(c.precision)) },
    hoverinfo: "text",
    hovertext: trial.ms.map((ms, index) => d.lines(`${plain(clipped(c.label, 120))}, round ${trial.round}`,
      `${(100 * share(trial.ms, index)).toFixed(1)} % of ${unit} took at most ${shortened(ms)} ms`)),
  })));
  const shape = (c) => pick(SHAPES, d.data.backends.indexOf(c.backend))[0];
  const medians = some.map((c) => ({
    type: "scatter", mode: "markers", x: c.trials.map((trial) => trial.p50), y: c.trials.map(() => 0.5), hoverinfo: "skip",
    marker: { symbol: shape(c), size: 8, color: d.colour(c), line: { width: 1, color: d.colours.text } },
  }));
  return [...lines, ...medians];
}
const distributionLegend = (d, some) => [...d.backendEntries((index) => pick(SHAPES, index)[1], some),
  ...d.precisionEntries((index) => dash(pick(DASHES, index)), some)];
// The points of the lines; in brief, a row for each line.
function distributionFacts(d, some) {
  const rounds = some.flatMap((c) => c.trials.map((trial) => ({ ...c, round: trial.round, ms: trial.ms })));
  const at = (portion) => ({ ms }) => ms[Math.round(portion * (ms.length - 1))];
  const named = [...whose(d), word("round", "round")];
  return {
    columns: [...named, word("share", "share"), column("time", "ms", (item) => item.at)],
    items: rounds.flatMap((item) => item.ms.map((ms, index) => ({ ...item, at: ms, share: Number(share(item.ms, index).toFixed(4)) }))),
    brief: { items: rounds, columns: [...named, ...[0, 0.1, 0.5, 0.9, 0.99, 1].map((portion) =>
      column({ 0: "least", 1: "most" }[portion] || `p${100 * portion}`, "ms", at(portion)))] },
  };
}

function drawDistributions(d) {
  const curves = d.cases.filter((c) => d.chosen.curves.has(c.anchor));
  const last = (ms) => ms[d.chosen.tail ? ms.length - 1 : Math.floor(0.99 * (ms.length - 1))];
  const timings = curves.flatMap((c) => c.trials.map((trial) => trial.ms));
  d.legend("ecdf-chart", distributionLegend(d, curves));
  // Never hidden: its list of cases brings it back.
  const empty = [{ type: "scatter", mode: "markers", x: [], y: [] }];
  d.show("ecdf-chart", timings.length ? distributions(d, curves, "calls") : empty, d.layout(d.narrow ? 320 : 400, {
    xaxis: d.axis("latency of a call, ms (log)", timings.length ? logarithmic(
      Math.min(...timings.map((ms) => ms[0])), Math.max(...timings.map(last)), d.narrow) : {}),
    yaxis: d.axis("share of calls", { range: [0, 1.02], tickformat: ".0%" }),
  }), distributionFacts(d, curves));
}

// Bars that lie, one for each case; of ``fields``, [field, title], whose values are in what ``from`` gives.
function lying(d, some, fields, unit, from = (c) => c) {
  const upwards = [...some].reverse();
  return fields
    .map(([field, title], index) => ({
      type: "bar", orientation: "h", y: upwards.map((c) => c.anchor), customdata: upwards.map((c) => c.anchor),
      x: upwards.map((c) => from(c)[field]), marker: d.patterned(index, d.colours.parts[index]),
      hoverinfo: "text", textposition: "none",
      hovertext: upwards.map((c) => `${plain(clipped(c.label, 80))}<br>${title}: ${plain(c.texts[field] || `${shortened(from(c)[field])} ${unit}`)}`),
    }))
    .filter((trace) => trace.x.some((x) => x !== null));
}
const partEntries = (d, fields) => fields.map(([, title], index) => [pick(PATTERNS, index)[1], title, d.colours.parts[index]]);
const sideways = (d, some, name) => d.axis("", { type: "category", categoryorder: "array",
  categoryarray: some.map((c) => c.anchor).reverse(), tickmode: "array", tickvals: some.map((c) => c.anchor),
  ticktext: some.map((c) => folded(c[name], d.narrow ? 28 : 44)), tickfont: { size: d.narrow ? 9 : 11 } });
const tall = (some) => 90 + 30 * some.length; // two lines each

function drawStart(d) {
  const start = [["process_start_ms", "start the process"], ["import_ms", "import the runtime"],
    ["load_ms", "load the model"], ["first_inference_ms", "first inference"]];
  drawParts(d, "start-chart", start, "ms", "stack");
}
function drawMemory(d) {
  const memory = [["memory_load_peak_mb", "peak while loading"], ["memory_peak_mb", "peak while running"]];
  drawParts(d, "memory-chart", memory, "MB", "group");
}
function drawParts(d, id, fields, unit, barmode) {
  const { cases } = d;
  d.legend(id, partEntries(d, fields));
  const traces = lying(d, cases, fields, unit);
  d.show(id, barmode === "group" ? traces.reverse() : traces, d.layout(tall(cases), {
    barmode, bargap: 0.3, xaxis: d.axis(unit, { rangemode: "tozero" }), yaxis: sideways(d, cases, "name"),
  }), { items: cases, columns: [...whose(d), ...fields.map(([field, title]) => figureOf(title, unit, field))] });
}

// ---------------------------------------------------------------- speed-up over fp32

const MOST_LINES = 60;

// A heat map: a row for each model and backend, a column for each precision, on a logarithmic scale
// around 1. The cells say their figures, so that nothing hangs on colour alone.
function drawSpeedup(d) {
  const { data, colours, narrow } = d;
  const row = (c) => JSON.stringify([c.run, c.model, c.backend]), place = (c) => JSON.stringify([row(c), c.kind]);
  const all = data.cases.filter((c) => c.speedup > 0 && c.condition === d.chosen.condition && d.of(c));
  const one = new Set(all.map(row)).size > MOST_LINES; // then of the chosen model alone
  const quick = all.filter((c) => !one || c.model === d.chosen.model)
    .sort((a, b) => data.precisions.indexOf(a.precision) - data.precisions.indexOf(b.precision));
  const kinds = [...new Set(quick.map((c) => c.kind))];
  const cells = new Map(quick.map((c) => [place(c), c]));
  const rows = [...new Set(data.cases.filter((c) => cells.has(place(c))).map(row))];
  const grid = (of, none = null) => rows.map((key) => kinds.map((kind) => {
    const c = cells.get(JSON.stringify([key, kind]));
    return c ? of(c) : none;
  }));
  const named = (key) => {
    const [run, model, backend] = JSON.parse(key).map((name) => plain(clipped(name, narrow ? 18 : 30)));
    return (d.several ? `${run} ` : "") + model + (narrow ? "<br>" : " ") + backend;
  };
  const speedup = figureOf("speed-up", "× fp32", "speedup", ["speedup_low", "speedup_high"]);
  const farthest = Math.max(0.2, ...quick.map((c) => Math.abs(Math.log2(c.speedup))));
  d.legend("speedup-chart", [["■", "slower than fp32", colours.slower], ["■", "faster", colours.faster],
    ["≈", "the interval includes 1"], ["–", "no interval"], ["?", "in doubt"]]);
  d.show("speedup-chart", quick.length ? [{
    type: "heatmap", x: kinds, y: rows, xgap: 2, ygap: 2, showscale: false,
    z: grid((c) => Math.log2(c.speedup)), zmin: -farthest, zmax: farthest,
    colorscale: [[0, colours.slower], [0.5, colours.even], [1, colours.faster]],
    text: grid((c) => `${c.texts.speedup.split(" ")[0]} ${verdict(c)}${c.doubt ? "?" : ""}`.trim(), ""),
    texttemplate: "%{text}", textfont: { color: colours.text, size: narrow ? 10 : 13 },
    customdata: grid((c) => c.anchor), hoverinfo: "text", hoverongaps: false,
    hovertext: grid((c) => d.tip(c, plain(clipped(c.model, 80)), d.said(c, "speedup", "speed-up"), MEANINGS[verdict(c)])),
  }] : [], d.layout(70 + (narrow ? 38 : 30) * rows.length, {
    margin: { l: 46, r: 12, t: 12, b: 30 },
    xaxis: d.axis("", { type: "category", showgrid: false, tickangle: 0, tickmode: "array", tickvals: kinds,
      ticktext: kinds.map((kind) => (narrow ? plain(clipped(kind, 30)).replace(/[- ]/g, "$&<br>") : plain(clipped(kind, 30)))),
      tickfont: { size: narrow ? 9 : 12 } }),
    yaxis: d.axis("", { type: "category", showgrid: false, autorange: "reversed", tickmode: "array", tickvals: rows,
      ticktext: rows.map(named), tickfont: { size: narrow ? 9 : 12 } }),
  }), { about: d.about(one ? d.chosen.model : "all models", d.chosen.condition),
    items: quick, columns: [...whose(d), word("precision", "kind"), speedup,
      column("meaning", "", (c) => MEANINGS[verdict(c)]), word("in doubt", "doubt")] });
}

const MEANINGS = { "≈": "the interval includes 1", "–": "no interval", "": "the interval excludes 1" };
const verdict = (c) => (c.speedup_low === null ? "–" : c.speedup_low <= 1 && 1 <= c.speedup_high ? "≈" : "");

// ---------------------------------------------------------------- noise and sweeps

// The trials of one case over the time of the run.
function drawTrials(d) {
  const name = d.choice("trials-chart", d.cases.map((c) => c.name));
  const c = d.cases.find((one) => one.name === name);
  const trials = c ? [...c.trials].sort((a, b) => a.minute - b.minute) : [];
  const series = (field, shade, shape) => ({
    type: "scatter", mode: "lines+markers", x: trials.map((t) => t.minute), y: trials.map((t) => t[field]), customdata: trials.map(() => c.anchor),
    line: { width: 1, color: shade, dash: "dot" }, cliponaxis: false,
    marker: { size: 10, color: shade, symbol: trials.map((t) => (t.doubt ? `${shape}-open` : shape)),
      line: { width: 2, color: shade } },
    hoverinfo: "text",
    hovertext: trials.map((t) => d.lines(`round ${t.round}: ${field} ${shortened(t[field])} ms`, plain(t.doubt))),
  });
  const [low, high] = d.colours.palette;
  d.legend("trials-chart", [["■", "p50", high], ["●", "p10", low], ["○", "in doubt"]]);
  d.show("trials-chart", trials.length ? [
    series("p50", high, "square"), series("p10", low, "circle"),
  ] : [], d.layout(d.narrow ? 260 : 300, {
    xaxis: d.axis("minutes of the run", { rangemode: "tozero" }),
    yaxis: d.axis("ms", { rangemode: "tozero" }),
  }), { about: d.about(d.chosen.model, d.chosen.condition, name), items: trials.map((trial) => ({ ...c, ...trial })),
    columns: [...whose(d), word("round", "round"), column("begun", "min", (t) => t.minute),
      column("p10", "ms", (t) => t.p10), column("p50", "ms", (t) => t.p50), word("in doubt", "doubt")] });
}

// The lines of the chosen scenario, and what the two charts of them have in common.
function sweepLines(d, id) {
  const here = d.data.sweeps.filter((line) => line.model === d.chosen.model && d.of(line));
  const scenario = d.choice(id, [...new Set(here.map((line) => line.scenario))]);
  const lines = here.filter((line) => line.scenario === scenario);
  const shape = (line) => pick(SHAPES, d.data.precisions.indexOf(line.precision))[0];
  const name = (line) => `${d.several ? `${line.run} ` : ""}${line.label}`;
  d.legend(id, [...d.backendEntries("●", lines),
    ...d.precisionEntries((index) => pick(SHAPES, index)[1], lines), ["○", "in doubt"]]);
  const trace = (line, more) => ({
    type: "scatter", cliponaxis: false, customdata: line.points.map((p) => p.anchor),
    line: { width: 1.5, color: d.backendColour(line.backend), dash: dashed(d.data.precisions.indexOf(line.precision)) },
    marker: { size: 9, color: d.backendColour(line.backend),
      symbol: line.points.map((p) => (p.doubt ? `${shape(line)}-open` : shape(line))), line: { width: 1.5 } },
    hoverinfo: "text",
    hovertext: line.points.map((p) => d.lines(plain(clipped(`${name(line)} ${p.label}`, 120)),
      d.said(p, "latency_p50_ms", "p50"), d.said(p, "throughput_ips", "throughput"), plain(clipped(p.doubt, 300)))),
    ...more,
  });
  const facts = (some) => ({
    about: d.about(d.chosen.model, scenario),
    items: some.flatMap((line) => line.points.map((p) => ({ ...p, run: line.run, model: line.model, axis: line.axis, label: `${name(line)} ${p.label}` }))),
    columns: [...whose(d), word("grows", "axis"), word("to", "at"), column("p50", "ms", (p) => p.ms, { text: (p) => p.texts.latency_p50_ms }),
      column("throughput", "items/s", (p) => p.ips, { low: (p) => p.ips_low, high: (p) => p.ips_high, text: (p) => p.texts.throughput_ips }),
      word("in doubt", "doubt")],
  });
  return { lines, trace, facts, name };
}

function drawSweeps(d) {
  if (!byId("sweep-chart")) return;
  const { lines, trace, facts } = sweepLines(d, "sweep-chart");
  const points = lines.flatMap((line) => line.points).filter((point) => point.ms > 0);
  d.show("sweep-chart", points.length ? lines.map((line) => trace(line, {
    mode: d.narrow || points.length > 30 ? "lines+markers" : "lines+markers+text",
    x: line.points.map((p) => p.ms), y: line.points.map((p) => p.ips),
    text: line.points.map((p) => plain(p.label)), textposition: "top center", textfont: { size: 10, color: d.colours.quiet },
  })) : [], d.layout(d.narrow ? 360 : 520, {
    xaxis: d.axis("p50 latency of a call, ms (log)", points.length ? logarithmic(...d.extent(points.map((p) => p.ms)), d.narrow) : {}),
    yaxis: d.axis("items/s (log)", points.length ? logarithmic(...d.extent(points.map((p) => p.ips)), d.narrow) : {}),
  }), facts(lines));
}

// Throughput against what grows: batch size, threads or streams, a panel for each.
function drawGrowth(d) {
  if (!byId("growth-chart")) return;
  const { lines, trace, facts } = sweepLines(d, "growth-chart");
  const titles = { batch_size: "batch size (log)", threads: "threads (log)", streams: "streams (log)" };
  const axes = Object.keys(titles).filter((axis) => lines.some((line) => line.axis === axis));
  const form = {}, room = d.narrow ? 0.16 : 0.08;
  axes.forEach((axis, index) => {
    const some = lines.filter((line) => line.axis === axis).flatMap((line) => line.points);
    const suffix = index ? String(index + 1) : "";
    const values = [...new Set(some.map((p) => p.at))].sort((a, b) => a - b);
    const width = (1 - room * (axes.length - 1)) / axes.length, from = index * (width + room);
    form[`xaxis${suffix}`] = d.axis(titles[axis], { type: "log", tickmode: "array", tickvals: values, ticktext: values.map(String),
      domain: [from, from + width], anchor: `y${suffix}` });
    form[`yaxis${suffix}`] = d.axis(index ? "" : "items/s", { rangemode: "tozero", anchor: `x${suffix}` });
  });
  d.show("growth-chart", lines.map((line) => {
    const suffix = axes.indexOf(line.axis) ? String(axes.indexOf(line.axis) + 1) : "";
    return trace(line, { mode: "lines+markers", xaxis: `x${suffix}`, yaxis: `y${suffix}`,
      x: line.points.map((p) => p.at), y: line.points.map((p) => p.ips),
      error_y: d.bars(line.points, { of: (p) => p.ips, low: (p) => p.ips_low, high: (p) => p.ips_high }) });
  }), d.layout(d.narrow ? 320 : 400, form), facts(lines));
}

// ---------------------------------------------------------------- charts of single scenarios

// Panels below each other, of what the machine tells: latency, clock, temperature.
function drawSustained(d) {
  if (!byId("sustained-chart")) return;
  const cases = d.all.filter((c) => c.series);
  const label = d.choice("sustained-chart", cases.map((c) => c.label));
  const c = cases.find((one) => one.label === label);
  if (!c) return d.show("sustained-chart", [], {});
  const { series } = c;
  const [first, last, third, fourth] = d.colours.palette;
  const panels = [
    { title: "ms", curves: [["p50_ms", "p50", first, 0], ["p99_ms", "p99", last, 1]] },
    { title: "GHz", curves: [["clock_ghz", "clock", third, 0]] },
    { title: "°C", curves: [["temperature_c", "temperature", fourth, 0]] },
  ].map((panel) => ({ ...panel, curves: panel.curves.filter(([field]) => series[field]) }))
    .filter((panel) => panel.curves.length);
  const end = series.end_s[series.end_s.length - 1];
  const parts = [2, 1, 1].slice(0, panels.length), room = 0.06;
  const whole = parts.reduce((sum, part) => sum + part, 0);
  let top = 1;
  const domains = parts.map((part) => {
    const domain = [Math.max(0, top - part / whole + (panels.length > 1 ? room : 0)), top];
    top -= part / whole;
    return domain;
  });
  const suffix = (index) => (index ? String(index + 1) : "");
  const form = {
    xaxis: d.axis("seconds of load", { range: [0, end], anchor: `y${suffix(panels.length - 1)}` }),
    shapes: [[0, series.part_s], [end - series.part_s, end]].map(([x0, x1]) => ({
      type: "rect", xref: "x", yref: "paper", x0, x1, y0: 0, y1: 1, line: { width: 0 },
      fillcolor: d.colours.quiet, opacity: 0.15, layer: "below" })),
  };
  panels.forEach((panel, index) => {
    form[`yaxis${suffix(index)}`] = d.axis(panel.title, { domain: domains[index], rangemode: panel.title === "ms" ? "tozero" : "normal" });
  });
  if (c.sustained_ratio !== null) {
    form.annotations = [{ xref: "paper", yref: "paper", x: 0, y: 1, xanchor: "left", yanchor: "bottom", showarrow: false,
      text: `p50 of the last part over the first: ${shortened(c.sustained_ratio)}`, font: { size: 12, color: d.colours.quiet } }];
  }
  d.legend("sustained-chart", panels.flatMap((panel) => panel.curves.map(([, name, shade, style]) => [dash(pick(DASHES, style)), name, shade])));
  d.show("sustained-chart", panels.flatMap((panel, index) => panel.curves.map(([field, name, shade, style]) => ({
    type: "scatter", mode: "lines", x: series.end_s, y: series[field], yaxis: `y${suffix(index)}`,
    line: { width: 1.5, color: shade, dash: dashed(style) }, hoverinfo: "text",
    hovertext: series.end_s.map((at, i) => `${shortened(at)} s: ${name} ${shortened(series[field][i])} ${panel.title}`),
    customdata: series.end_s.map(() => c.anchor),
  }))), d.layout(180 + 120 * panels.length, { ...form, margin: { l: 46, r: 12, t: 28, b: 48 } }), {
    about: `${c.model}, ${c.label}`,
    items: series.end_s.map((at, index) => ({ at, ...c, ...Object.fromEntries(panels.flatMap((panel) => panel.curves.map(([field]) => [field, series[field][index]]))) })),
    columns: [...whose(d), column("load", "s", (item) => item.at),
      ...panels.flatMap((panel) => panel.curves.map(([field, name]) => column(name, panel.title, (item) => item[field])))],
  });
}

function drawPaced(d) {
  if (!byId("paced-chart")) return;
  const cases = d.all.filter((c) => c.deadline_ms);
  const deadlines = [...new Set(cases.map((c) => c.deadline_ms))];
  const timings = cases.flatMap((c) => c.trials.map((trial) => trial.ms));
  d.legend("paced-chart", distributionLegend(d, cases));
  d.show("paced-chart", distributions(d, cases, "frames"), d.layout(d.narrow ? 300 : 360, {
    xaxis: d.axis("response time, ms (log)", timings.length ? logarithmic(
      Math.min(...timings.map((ms) => ms[0])),
      Math.max(...deadlines, ...timings.map((ms) => ms[ms.length - 1])), d.narrow) : {}),
    yaxis: d.axis("share of frames", { range: [0, 1.02], tickformat: ".0%" }),
    shapes: deadlines.map((ms) => ({ type: "line", yref: "paper", x0: ms, x1: ms, y0: 0, y1: 1,
      line: { color: d.colours.bad, width: 1.5, dash: "dash" } })),
    annotations: deadlines.map((ms, index) => ({ x: Math.log10(ms), y: 0.02 + 0.07 * index, yref: "paper", xanchor: "right", yanchor: "bottom", showarrow: false,
      text: `deadline ${shortened(ms)} ms`, font: { size: 11, color: d.colours.bad }, bgcolor: d.colours.back })),
  }), { about: d.about(d.chosen.model), ...distributionFacts(d, cases) });
}

function drawPipeline(d) {
  if (!byId("pipeline-chart")) return;
  const cases = d.all.filter((c) => c.stages);
  const parts = [["decode", "decode"], ["preprocess", "preprocess"], ["inference", "bind, infer, read"], ["postprocess", "postprocess"]]
    .filter(([part]) => cases.some((c) => c.stages[part] !== null));
  d.legend("pipeline-chart", partEntries(d, parts));
  const sum = (c) => parts.reduce((total, [part]) => total + (c.stages[part] || 0), 0);
  d.show("pipeline-chart", lying(d, cases, parts, "ms", (c) => c.stages), d.layout(tall(cases), {
    barmode: "stack", bargap: 0.3, xaxis: d.axis("ms", cases.length && !d.narrow ? { range: [0, 1.25 * Math.max(...cases.map(sum))] } : {}),
    yaxis: sideways(d, cases, "label"),
    annotations: d.narrow ? [] : cases.map((c) => ({ x: sum(c), y: c.anchor, xanchor: "left", showarrow: false, font: { size: 11 },
      text: ` frame p50 ${plain(c.texts.e2e_p50_ms || "–")}, ${plain(c.texts.fps || "–")}` })),
  }), { about: d.about(d.chosen.model), items: cases,
    columns: [...whose(d), ...parts.map(([part, title]) => column(title, "ms", (c) => c.stages[part])),
      figureOf("frame p50", "ms", "e2e_p50_ms"), figureOf("frames", "per s", "fps")] });
}

function drawServer(d) {
  if (!byId("server-chart")) return;
  const cases = d.all.filter((c) => c.probes && c.probes.length);
  const label = d.choice("server-chart", cases.map((c) => c.label));
  const c = cases.find((one) => one.label === label);
  if (!c) return d.show("server-chart", [], {});
  const [shade] = d.colours.palette;
  d.legend("server-chart", [["●", "valid", shade], ["○", "not valid", shade]]);
  d.show("server-chart", [{
    type: "scatter", mode: "markers", x: c.probes.map((p) => p.qps), y: c.probes.map((p) => p.ms), customdata: c.probes.map(() => c.anchor),
    marker: { size: 11, color: shade, symbol: c.probes.map((p) => (p.valid ? "circle" : "circle-open")), line: { width: 2, color: shade } },
    hoverinfo: "text",
    hovertext: c.probes.map((p, index) => `probe ${index + 1}: ${shortened(p.qps)} queries/s<br>` +
      `${c.percentile}th percentile ${shortened(p.ms)} ms, ${p.valid ? "valid" : "not valid"}`),
  }], d.layout(d.narrow ? 280 : 340, {
    xaxis: d.axis("queries a second (log)", logarithmic(...d.extent(c.probes.map((p) => p.qps)), d.narrow)),
    yaxis: d.axis(`${c.percentile}th percentile, ms (log)`, logarithmic(...d.extent([c.limit_ms, ...c.probes.map((p) => p.ms)]), d.narrow)),
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: c.limit_ms, y1: c.limit_ms, line: { color: d.colours.bad, width: 1.5, dash: "dash" } }],
  }), { about: `${c.model}, ${c.label}`, items: c.probes.map((probe, index) => ({ ...c, ...probe, probe: index + 1 })),
    columns: [...whose(d), word("probe", "probe"), column("rate", "queries/s", (p) => p.qps), column(`p${c.percentile}`, "ms", (p) => p.ms),
      column("verdict", "", (p) => (p.valid ? "valid" : "not valid")), column("limit", "ms", () => c.limit_ms)] });
}

// ---------------------------------------------------------------- energy

// A chart for each group of energies that may be compared with each other.
function drawEnergy(d) {
  d.data.energy.forEach((group, index) => {
    const id = `energy-${index + 1}-chart`;
    if (!byId(id)) return;
    const some = group.filter((c) => c.model === d.chosen.model && d.of(c));
    const upwards = [...some].reverse();
    const above = column("energy", "mJ", (c) => c.mj, { low: (c) => c.low, high: (c) => c.high, text: (c) => c.texts.energy_mj_per_inference });
    const whole = column("gross", "mJ", (c) => c.gross, { text: (c) => c.texts.energy_gross_mj_per_inference });
    const trace = (fact, title, index, more) => ({
      type: "bar", orientation: "h", y: upwards.map((c) => c.anchor), x: upwards.map(fact.of), customdata: upwards.map((c) => c.anchor),
      marker: d.patterned(index, pick(d.colours.parts, index)), hoverinfo: "text", textposition: "none", ...more,
      hovertext: upwards.map((c) => d.tip(c, `${title}: ${plain(fact.text(c) || "–")}`)),
    });
    const both = some.some((c) => c.gross !== null);
    d.legend(id, partEntries(d, [["", both ? "above idle" : "energy"], ...(both ? [["", "gross: with the idle share"]] : [])]));
    d.show(id, some.length ? [...(both ? [trace(whole, "gross", 1)] : []),
      trace(above, both ? "above idle" : "energy", 0, { error_x: d.bars(upwards, above) })] : [],
    d.layout((both ? 1.4 : 1) * tall(some), { barmode: "group", bargap: 0.3,
      xaxis: d.axis("mJ per inference", { rangemode: "tozero" }), yaxis: sideways(d, some, "label") }),
    { items: some, columns: [...whose(d), above, ...(both ? [whole] : []), word("disturbed", "doubt")] });
  });
}

function drawPower(d) {
  if (!byId("power-chart")) return;
  const all = d.data.power.filter(d.of);
  const named = (one) => (d.data.runs.length > 1 ? `${one.run}: ` : "") + one.name;
  const name = d.choice("power-chart", all.map(named));
  const one = all.find((series) => named(series) === name);
  if (!one) return d.show("power-chart", [], {});
  const [shade, mean] = d.colours.palette;
  d.legend("power-chart", [...(one.seconds.length ? [["―", "readings", shade]] : []), ["━", "mean of a window", mean]]);
  const windows = one.windows.map((w) => ({ ...w, what: "window" }));
  const readings = one.seconds.map((from, index) => ({ what: "reading", from, watts: one.watts[index] }));
  const columns = [word("what", "what"), word("of", "label"), column("from", "s", (w) => w.from),
    column("to", "s", (w) => w.to ?? null), column("power", "W", (w) => w.watts)];
  d.show("power-chart", [
    ...(one.seconds.length ? [{ type: "scatter", mode: "lines", x: one.seconds, y: one.watts,
      line: { width: 1, color: shade }, hoverinfo: "x+y" }] : []),
    ...one.windows.map((w) => ({ type: "scatter", mode: "lines", x: [w.from, (w.from + w.to) / 2, w.to], y: Array(3).fill(w.watts),
      line: { width: 5, color: w.label === "idle" ? d.colours.quiet : mean }, hoverinfo: "text",
      hovertext: d.lines(plain(clipped(w.label, 120)), `${shortened(w.watts)} W for ${shortened(w.to - w.from)} s`) })),
  ], d.layout(d.narrow ? 260 : 320, {
    xaxis: d.axis("seconds of the energy pass"), yaxis: d.axis("W", { rangemode: "tozero" }),
  }), { about: name, columns, items: [...windows, ...readings], brief: { columns, items: windows } });
}

// ---------------------------------------------------------------- roofline

function drawRoofline(d) {
  if (!byId("roofline-chart")) return;
  const roofs = d.data.roofs.filter(d.of);
  // A ceiling is of one machine, device and number of threads.
  const named = (roof, one) => `${d.data.runs.length > 1 ? `${roof.run}: ` : ""}${one.device}, ${one.threads}`;
  const places = [...new Set(roofs.flatMap((roof) => roof.points.map((point) => named(roof, point))))];
  const place = d.choice("roofline-chart", places);
  const roof = roofs.find((one) => one.points.some((point) => named(one, point) === place));
  if (!roof) return d.show("roofline-chart", [], {});
  const points = roof.points.filter((point) => named(roof, point) === place);
  const { device, threads } = points[0];
  const rates = roof.rates.filter((rate) => rate.device === device && rate.threads === threads);
  const memory = device === "cpu" ? roof.bandwidths.find((one) => one.threads === threads) : undefined;
  const words = [...new Set([...rates, ...points].map((one) => one.precision))];
  const style = (word) => pick(DASHES, words.indexOf(word)).replace(/\d+/g, "$&px") || "solid";
  const shape = (word) => pick(SHAPES, words.indexOf(word))[0];
  const [left, right] = d.extent(points.map((point) => point.macs_per_byte));
  const from = left / 3, to = right * 3, giga = 1e-9;
  const top = Math.max(...rates.map((rate) => rate.macs_per_s));
  const ridge = (rate) => (memory ? Math.max(from, Math.min(to, rate.macs_per_s / memory.bytes_per_s)) : from);
  const slope = memory && top / memory.bytes_per_s > from
    ? [from, Math.min(to, top / memory.bytes_per_s)] : [];
  const lowest = Math.min(...[...points, ...rates].map((one) => one.macs_per_s), ...slope.map((x) => x * memory.bytes_per_s));
  const focused = (point) => point.model === d.chosen.model;
  d.legend("roofline-chart", [...d.backendEntries("●", points),
    ...words.map((word) => [pick(SHAPES, words.indexOf(word))[1], `ran at ${word}`])]);
  const label = (x, y, text, shade) => ({ x: Math.log10(x), y: Math.log10(y), text, showarrow: false,
    xanchor: "right", yanchor: "bottom", font: { size: 11, color: shade } });
  const ceilings = rates.map((rate) => ({ what: "ceiling", model: "", label: "", precision: rate.precision, rate: rate.macs_per_s * giga }));
  const achieved = points.map((p) => ({ ...p, what: "case", rate: p.macs_per_s * giga, run: roof.run }));
  d.show("roofline-chart", [
    ...rates.map((rate) => ({ type: "scatter", mode: "lines", x: [ridge(rate), to], y: [rate.macs_per_s * giga, rate.macs_per_s * giga],
      line: { width: 1.5, color: d.colours.text, dash: style(rate.precision) }, hoverinfo: "text",
      hovertext: `${plain(rate.precision)}: ${shortened(rate.macs_per_s * giga)} GMAC/s` })),
    ...(slope.length ? [{ type: "scatter", mode: "lines", x: slope, y: slope.map((x) => x * memory.bytes_per_s * giga),
      line: { width: 1.5, color: d.colours.quiet }, hoverinfo: "text",
      hovertext: `memory: ${shortened(memory.bytes_per_s * giga)} GB/s` }] : []),
    { type: "scatter", mode: "markers", x: points.map((p) => p.macs_per_byte), y: points.map((p) => p.macs_per_s * giga),
      customdata: points.map((p) => p.anchor),
      marker: { size: points.map((p) => (p.suspicious ? 15 : 11)), color: points.map((p) => d.backendColour(p.backend)),
        symbol: points.map((p) => shape(p.precision)), opacity: points.map((p) => (focused(p) ? 1 : 0.35)),
        line: { width: points.map((p) => (p.suspicious ? 3 : 1)), color: points.map((p) => (p.suspicious ? d.colours.bad : d.colours.text)) } },
      hoverinfo: "text",
      hovertext: points.map((p) => d.lines(plain(clipped(`${p.model} ${p.label}`, 120)), `ran at ${plain(p.precision)}`,
        `${shortened(p.macs_per_s * giga)} GMAC/s, ${shortened(p.macs_per_byte)} MAC per byte`,
        `${(100 * p.share).toFixed(0)} % of its roofline`, p.suspicious ? `above the roofline: ${plain(p.suspicious)}` : "")) },
  ], d.layout(d.narrow ? 360 : 460, {
    margin: { l: 46, r: 12, t: 24, b: 48 },
    xaxis: d.axis("multiply-accumulates per byte (log)", logarithmic(from, to, d.narrow)),
    yaxis: d.axis("GMAC/s (log)", logarithmic(lowest * giga / 1.5, Math.max(top, ...points.map((p) => p.macs_per_s)) * giga * 1.8, d.narrow)),
    annotations: [
      ...rates.map((rate) => label(to, rate.macs_per_s * giga, `${plain(rate.precision)}: ${shortened(rate.macs_per_s * giga)} GMAC/s`, d.colours.text)),
      ...(slope.length ? [{ ...label(slope[0], slope[0] * memory.bytes_per_s * giga, `memory: ${shortened(memory.bytes_per_s * giga)} GB/s`, d.colours.quiet), xanchor: "left", yanchor: "top" }] : []),
    ],
  }), { about: place, items: [...achieved, ...ceilings], columns: [word("what", "what"), ...whose(d), word("ran at", "precision"),
    column("intensity", "MAC per byte", (p) => p.macs_per_byte ?? null), column("rate", "GMAC/s", (p) => Number(p.rate.toPrecision(6))),
    column("of its roofline", "%", (p) => (p.share === undefined ? null : Number((100 * p.share).toPrecision(4)))), word("suspicious", "suspicious"),
    ...(memory ? [column("memory", "GB/s", () => Number((memory.bytes_per_s * giga).toPrecision(6)))] : [])] });
}

// ---------------------------------------------------------------- where the time of an inference goes

function drawProfile(d) {
  if (!byId("profile-chart")) return;
  const cases = d.data.profile.filter((c) => c.model === d.chosen.model && d.of(c) && c.condition === d.chosen.condition);
  const kinds = cases.length ? cases[0].kinds.filter((kind) => cases.some((c) => kind in c.share)) : [];
  const shade = (index) => pick(d.colours.palette, index);
  // A pattern besides the colour, for those who cannot tell the colours apart.
  const pattern = (index) => pick(PATTERNS, index);
  const upwards = [...cases].reverse();
  const named = (c) => (c.of === "time" ? c.label : `${c.label} (operators)`);
  const told = (c, kind) => d.lines(plain(clipped(c.label, 80)), plain(clipped(kind, 80)),
    `${shortened(c.share[kind])} % of the ${c.of}`,
    [kind in c.us ? `${shortened(c.us[kind])} µs` : "", `${c.operators[kind]} operators`].filter(Boolean).join(", "));
  d.legend("profile-chart", kinds.map((kind, index) => [pattern(index)[1], clipped(kind, 40), shade(index)]));
  d.show("profile-chart", kinds.map((kind, index) => ({
    type: "bar", orientation: "h", y: upwards.map((c) => c.anchor), x: upwards.map((c) => c.share[kind] ?? null),
    customdata: upwards.map((c) => c.anchor), hoverinfo: "text", textposition: "none",
    marker: { color: shade(index), pattern: { shape: pattern(index)[0], fgcolor: d.colours.back, fillmode: "overlay", solidity: 0.25, size: 7 } },
    hovertext: upwards.map((c) => (kind in c.share ? told(c, kind) : "")),
  })), d.layout(tall(cases), {
    barmode: "stack", bargap: 0.3, xaxis: d.axis("%", { range: [0, 100] }),
    yaxis: sideways(d, cases.map((c) => ({ ...c, named: named(c) })), "named"),
  }), { items: cases.flatMap((c) => c.kinds.filter((kind) => kind in c.share).map((kind) => ({ ...c, kind }))),
    columns: [...whose(d), word("type", "kind"), column("share", "%", (c) => c.share[c.kind]), word("of", "of"),
      column("time", "µs", (c) => c.us[c.kind] ?? null), column("operators", "", (c) => c.operators[c.kind])] });
}

// ---------------------------------------------------------------- machines and what they cost

function drawCosts(d) {
  if (!byId("costs-chart")) return;
  const { points, machines, axes } = d.data.costs;
  const title = d.choice("costs-chart", axes.map((axis) => axis.title));
  const axis = axes.find((one) => one.title === title);
  const some = points.filter((p) => p.model === d.chosen.model && d.of(p) && p[axis.name] !== null
    && (!axis.currency || p.currency === axis.currency));
  const shape = (p) => pick(SHAPES, machines.indexOf(p.machine));
  d.legend("costs-chart", [...d.backendEntries("●", some),
    ...machines.filter((name) => some.some((p) => p.machine === name)).map((name) => [pick(SHAPES, machines.indexOf(name))[1], name]),
    ["○", "in doubt"]]);
  const rate = column("throughput", "items/s", (p) => p.ips, { low: (p) => p.ips_low, high: (p) => p.ips_high, text: (p) => p.texts.throughput_ips });
  const texts = [["throughput_ips", ""], ["ips_per_price", "per price"], ["ips_per_hourly_price", "per hourly price"], ["ips_per_watt", "per watt"],
    ["machines_needed", "machines"], ["owned_per_million", "bought, a million"], ["rented_per_million", "rented, a million"]];
  d.show("costs-chart", some.length ? [{
    type: "scatter", mode: "markers", x: some.map((p) => p[axis.name]), y: some.map((p) => p.ips),
    error_y: d.bars(some, rate), customdata: some.map((p) => p.anchor),
    marker: { size: 11, color: some.map((p) => d.backendColour(p.backend)),
      symbol: some.map((p) => (p.doubt ? `${shape(p)[0]}-open` : shape(p)[0])), line: { width: 1.5, color: some.map((p) => d.backendColour(p.backend)) } },
    hoverinfo: "text",
    hovertext: some.map((p) => d.lines(plain(clipped(p.label, 120)), plain(p.machine),
      ...texts.map(([name, words]) => (p.texts[name] ? `${words} ${plain(p.texts[name])}` : "")), plain(clipped(p.doubt, 300)))),
  }] : [], d.layout(d.narrow ? 340 : 440, {
    xaxis: d.axis(axis.title, { rangemode: "tozero" }), yaxis: d.axis("items/s", { rangemode: "tozero" }),
  }), {
    columns: [word("machine", "machine"), word("model", "model"), word("case", "label"),
      rate,
      column(axis.title, "", (p) => p[axis.name])],
    items: some,
  });
}

// ---------------------------------------------------------------- figures held against limits

const STANDINGS = { surely: ["circle", "●"], perhaps: ["circle-open", "○"], not: ["x-thin-open", "×"] };

function drawRecommend(d) {
  if (!byId("recommend-chart")) return;
  const { data: { recommend }, colours } = d;
  const name = d.choice("recommend-chart", recommend.map((one) => one.name));
  const { unit, limit, least, points } = recommend.find((one) => one.name === name);
  const value = column("figure", unit, (p) => p.value, { low: (p) => p.low, high: (p) => p.high, text: (p) => p.text });
  const standings = Object.keys(STANDINGS).filter((standing) => points.some((p) => p.standing === standing));
  d.legend("recommend-chart", [...standings.map((standing) => [STANDINGS[standing][1], standing]), ...d.backendEntries("■", points)]);
  const hue = points.map((p) => d.backendColour(p.backend));
  const [low, high] = d.extent([...points.flatMap((p) => [p.value, p.low, p.high]), limit].filter((end) => end !== null));
  const room = 0.06 * (high - low) || 1;
  const line = { type: "line", yref: "paper", y0: 0, y1: 1, x0: limit, x1: limit, line: { color: colours.bad, width: 1.5, dash: "dash" } };
  const words = { x: limit, y: 1, yref: "paper", yanchor: "bottom", xanchor: limit > (low + high) / 2 ? "right" : "left",
    showarrow: false, text: `at ${least ? "least" : "most"} ${limit} ${unit}`, font: { color: colours.bad, size: 11 } };
  d.show("recommend-chart", [{
    type: "scatter", mode: "markers", x: points.map((p) => p.value), y: points.map((p) => p.anchor),
    error_x: d.bars(points, value), customdata: points.map((p) => p.anchor),
    marker: { size: 10, color: hue, symbol: points.map((p) => STANDINGS[p.standing][0]), line: { width: 1.5, color: hue } },
    hoverinfo: "text", hovertext: points.map((p) => d.lines(plain(clipped(p.label, 120)), plain(p.text), p.standing)),
  }], d.layout(tall(points), {
    xaxis: d.axis(plain(unit), { range: [low - room, high + room] }), yaxis: sideways(d, points, "label"),
    shapes: limit === null ? [] : [line], annotations: limit === null ? [] : [words], margin: { l: 46, r: 12, t: 28, b: 48 },
  }), { about: name, columns: [word("case", "label"), word("keeps the limits", "standing"), value], items: points });
}

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
