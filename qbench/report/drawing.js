// ---------------------------------------------------------------- what all charts share


// Okabe and Ito's palette, which most colour-blind readers can tell apart; paler on dark.
const PALETTE = {
  light: ["#0072b2", "#d55e00", "#009e73", "#c2608f", "#b58900", "#3a3f47", "#56b4e9", "#8c564b"],
  dark: ["#56b4e9", "#ff9a4d", "#2ec79a", "#e39ac5", "#f0e442", "#c9d1d9", "#8ab4ff", "#d7a48f"],
};
// Parts of a bar, where colour does not stand for a backend.
const PARTS = {
  light: ["#3d4d66", "#8fa0b8", "#e08e1b", "#6b8e4e"], dark: ["#dbe4ef", "#7f90a8", "#ffb454", "#9ec27a"],
};
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
    back: value("--back"), text: value("--text"), quiet: value("--quiet"), line: value("--line"), raised: value("--raised"), bad: value("--bad"),
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

// What the functions that draw a chart are given: the data, what is chosen, and helpers.
function drawing(data, chosen) {
  const colours = theme();
  const several = data.runs.length > 1;
  const of = (c) => !chosen.run || c.run === chosen.run;
  const all = data.cases.filter((c) => c.model === chosen.model && of(c)); // under any conditions
  const cases = all.filter((c) => c.condition === chosen.condition);
  const backendColour = (name) => pick(colours.palette, data.backends.indexOf(name));
  const colour = (c) => backendColour(c.backend);
  const narrow = innerWidth < 600;
  const family = getComputedStyle(document.body).fontFamily;

  const axis = (title, more) => ({
    title: { text: title, font: { size: 12 } }, gridcolor: colours.line, linecolor: colours.line,
    zerolinecolor: colours.line, automargin: true, fixedrange: narrow, ...more,
  });
  const layout = (height, more) => ({
    height, margin: { l: 46, r: 12, t: 12, b: 48 }, showlegend: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colours.text, size: narrow ? 10 : 12, family },
    hoverlabel: { bgcolor: colours.raised, bordercolor: colours.line, align: "left",
      font: { color: colours.text, family } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.quiet, activecolor: colours.text },
    hovermode: "closest", ...more,
  });
  const config = {
    responsive: true, typesetMath: false, displaylogo: false, displayModeBar: narrow ? false : "hover",
    // Named one by one, and no server: by default plotly adds a button that uploads the chart.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d"]], plotlyServerURL: "",
  };

  // A figure that has nothing to show here is hidden.
  function show(id, traces, form) {
    const target = byId(id);
    target.closest("figure").hidden = !traces.length;
    if (traces.length) Plotly.react(target, traces, form, config);
    else Plotly.purge(target);
  }

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
  const backendEntries = (glyph, some = cases) =>
    present("backend", data.backends, some).map((name) => [glyph, name, backendColour(name)]);
  const precisionEntries = (mark, some = cases) => present("precision", data.precisions, some)
    .map((name) => [mark(data.precisions.indexOf(name)), name]);
  const runEntries = (entries) => (several && !chosen.run ? entries : []);

  const range = (value, low, high, unit) => value === null ? null :
    shortened(value) + (low === null ? "" : ` (${shortened(low)} … ${shortened(high)})`) + ` ${unit}`;
  // A tooltip's lines, those that are not empty, broken where they are long.
  const lines = (...texts) =>
    texts.filter(Boolean).map((line) => line.replace(/(.{60}\S*)\s/g, "$1<br>")).join("<br>");
  const about = (c, extra) => lines(plain(c.label), ...extra, plain(c.doubt));
  const bars = (list, value, low, high) => ({
    type: "data", symmetric: false, visible: list.some((c) => c[low] !== null),
    array: list.map((c) => (c[high] === null ? 0 : c[high] - c[value])),
    arrayminus: list.map((c) => (c[low] === null ? 0 : c[value] - c[low])),
    color: colours.quiet, thickness: 1, width: 3,
  });
  const extent = (values) => [Math.min(...values), Math.max(...values)];

  return { data, chosen, all, cases, colours, colour, backendColour, narrow, of, axis, layout, show,
    choice, legend, backendEntries, precisionEntries, runEntries, range, lines, about, bars, extent };
}
