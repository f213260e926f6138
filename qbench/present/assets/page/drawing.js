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
