// ---------------------------------------------------------------- charts of cases alike

// Latency against accuracy, or against SQNR where there are no labels.
function drawQuality(d) {
  const { data, cases, colours, narrow } = d;
  const labelled = cases.some((c) => c.accuracy !== null);
  const quality = labelled ? "accuracy" : "sqnr_db";
  const points = cases.filter((c) => c[quality] !== null && c.latency_p50_ms > 0);
  const scale = labelled ? 100 : 1;
  const metric = [...new Set(points.map((c) => c.accuracy_metric))].filter(Boolean).map(plain).join(", ");
  const shape = (c) => {
    const name = pick(SHAPES, data.precisions.indexOf(c.precision))[0];
    return name + (c.doubt ? "-open" : "") + (data.runs.indexOf(c.run) % 2 ? "-dot" : "");
  };
  d.legend("accuracy-chart", [...d.backendEntries("●"), ...d.precisionEntries((index) => pick(SHAPES, index)[1]),
    ...d.runEntries(data.runs.map((run, index) => [index % 2 ? "⊙" : "●", `run ${run}`]))]);
  d.show("accuracy-chart", points.length ? [{
    type: "scatter", mode: "markers", x: points.map((c) => c.latency_p50_ms),
    y: points.map((c) => scale * c[quality]),
    error_x: d.bars(points, "latency_p50_ms", "latency_p50_low_ms", "latency_p50_high_ms"),
    error_y: labelled ? {
      ...d.bars(points, "accuracy", "accuracy_low", "accuracy_high"),
      array: points.map((c) => 100 * (c.accuracy_high - c.accuracy)),
      arrayminus: points.map((c) => 100 * (c.accuracy - c.accuracy_low)),
    } : undefined,
    marker: { size: narrow ? 10 : 12, color: points.map(d.colour), symbol: points.map(shape), opacity: 0.9,
      line: { width: points.map((c) => (c.doubt ? 2.5 : 1)),
        color: points.map((c) => (c.doubt ? d.colour(c) : colours.text)) } },
    hoverinfo: "text",
    hovertext: points.map((c) => d.about(c, [
      `p50 ${d.range(c.latency_p50_ms, c.latency_p50_low_ms, c.latency_p50_high_ms, "ms")}, p99 ${shortened(c.latency_p99_ms)} ms`,
      c.accuracy === null ? "" : `accuracy ${(100 * c.accuracy).toFixed(1)} %`,
      c.sqnr_db === null ? "" : `SQNR ${c.sqnr_db.toFixed(0)} dB`,
      c.speedup === null ? "" : `speed-up ${d.range(c.speedup, c.speedup_low, c.speedup_high, "×")}`,
      c.effective_precision === null ? "" : `ran at ${plain(c.effective_precision)}`,
      `${c.rounds} rounds`])),
  }] : [], d.layout(narrow ? 340 : 440, {
    xaxis: d.axis("p50 latency, ms (log)", points.length ? logarithmic(
      Math.min(...points.map((c) => c.latency_p50_low_ms ?? c.latency_p50_ms)),
      Math.max(...points.map((c) => c.latency_p50_high_ms ?? c.latency_p50_ms)), narrow) : {}),
    yaxis: d.axis(labelled ? `accuracy (${metric}), %` : "SQNR against fp32, dB"),
  }));
}

// By precision, grouped by backend (and run).
function drawSpeedup(d) {
  const { data, cases, colours, narrow } = d;
  const quick = cases.filter((c) => c.speedup !== null)
    .sort((a, b) => data.precisions.indexOf(a.precision) - data.precisions.indexOf(b.precision));
  const kind = (c) => plain(c.kind);
  const kinds = [...new Set(quick.map(kind))];
  const groups = new Map();
  for (const c of quick) {
    const key = JSON.stringify([c.run, c.backend]);
    groups.set(key, [...(groups.get(key) || []), c]);
  }
  d.legend("speedup-chart", [...d.backendEntries("■", quick),
    ...d.runEntries(data.runs.map((run, index) => [pick(PATTERNS, index)[1], `run ${run}`]))]);
  const place = ([first]) => data.backends.indexOf(first.backend) * data.runs.length + data.runs.indexOf(first.run);
  d.show("speedup-chart", [...groups.values()].sort((a, b) => place(a) - place(b)).map((list) => ({
    type: "bar", x: list.map(kind), y: list.map((c) => c.speedup),
    marker: { color: d.colour(list[0]),
      pattern: { shape: pick(PATTERNS, data.runs.indexOf(list[0].run))[0], fillmode: "overlay",
        fgcolor: colours.back, fgopacity: 0.75, size: 7, solidity: 0.35 } },
    error_y: { ...d.bars(list, "speedup", "speedup_low", "speedup_high"), color: colours.text },
    hoverinfo: "text",
    hovertext: list.map((c) => d.about(c, [`speed-up ${d.range(c.speedup, c.speedup_low, c.speedup_high, "×")}`])),
    text: list.map((c) => (narrow || groups.size > data.backends.length ? "" : c.speedup.toFixed(2) + (c.doubt ? " ?" : ""))),
    textposition: "inside", insidetextanchor: "start", textangle: 0,
  })), d.layout(narrow ? 300 : 360, {
    barmode: "group", bargap: quick.length < 4 ? 0.7 : 0.25,
    xaxis: d.axis("", { type: "category", categoryorder: "array", categoryarray: kinds }),
    yaxis: d.axis("speed-up, × fp32", { rangemode: "tozero" }),
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: colours.text, width: 1.5, dash: "dash" } }],
  }));
}

// Cumulative distributions, a line for each trial: of calls, or of frames.
function distributions(d, some, unit) {
  const share = (ms, index) => (index + 1) / ms.length;
  return some.flatMap((c) => c.trials.map((trial) => ({
    type: "scatter", mode: "lines", x: trial.ms,
    y: trial.ms.map((_, index) => share(trial.ms, index)),
    line: { width: 1, color: d.colour(c), shape: "hv",
      dash: pick(DASHES, d.data.precisions.indexOf(c.precision)).replace(/\d+/g, "$&px") || "solid" },
    hoverinfo: "text",
    hovertext: trial.ms.map((ms, index) =>
      `${plain(c.label)}, round ${trial.round}<br>${(100 * share(trial.ms, index)).toFixed(1)} % of ${unit} took at most ${shortened(ms)} ms`),
  })));
}
const distributionLegend = (d, some) => [...d.backendEntries("●", some),
  ...d.precisionEntries((index) => dash(pick(DASHES, index)), some)];

function drawDistributions(d) {
  const curves = d.cases.filter((c) => d.chosen.curves.has(c.label));
  const last = (ms) => ms[d.chosen.tail ? ms.length - 1 : Math.floor(0.99 * (ms.length - 1))];
  const timings = curves.flatMap((c) => c.trials.map((trial) => trial.ms));
  d.legend("ecdf-chart", distributionLegend(d, curves));
  // Never hidden: its list of cases brings it back.
  const empty = [{ type: "scatter", mode: "markers", x: [], y: [] }];
  d.show("ecdf-chart", timings.length ? distributions(d, curves, "calls") : empty, d.layout(d.narrow ? 320 : 400, {
    xaxis: d.axis("latency of a call, ms (log)", timings.length ? logarithmic(
      Math.min(...timings.map((ms) => ms[0])), Math.max(...timings.map(last)), d.narrow) : {}),
    yaxis: d.axis("share of calls", { range: [0, 1.02], tickformat: ".0%" }),
  }));
}

// Stacked or grouped bars, one for each case, which has its name from ``name``; of ``fields``, [field,
// title] in the order of shades, whose values lie in ``from``.
function stacked(some, fields, unit, shades, name, from = (c) => c) {
  const upwards = [...some].reverse();
  return fields
    .map(([field, title], index) => ({
      type: "bar", orientation: "h", y: upwards.map((c) => plain(c[name])),
      x: upwards.map((c) => from(c)[field]), marker: { color: shades[index] },
      hoverinfo: "text", textposition: "none",
      hovertext: upwards.map((c) => `${plain(c.label)}<br>${title}: ${shortened(from(c)[field])} ${unit}`),
    }))
    .filter((trace) => trace.x.some((x) => x !== null));
}
const sideways = (d, some, name) => d.axis("", { type: "category", categoryorder: "array",
  categoryarray: some.map((c) => plain(c[name])).reverse(), tickfont: { size: d.narrow ? 9 : 11 } });
const tall = (some) => 90 + 24 * some.length;

// Start-up and memory.
function drawStart(d) {
  const { cases, colours: { parts } } = d;
  const start = [["process_start_ms", "start the process"], ["import_ms", "import the runtime"],
    ["load_ms", "load the model"], ["first_inference_ms", "first inference"]];
  const memory = [["memory_load_peak_mb", "peak while loading"], ["memory_peak_mb", "peak while running"]];
  d.legend("start-chart", start.map(([, title], index) => ["■", title, parts[index]]));
  d.show("start-chart", stacked(cases, start, "ms", parts, "name"), d.layout(tall(cases), {
    barmode: "stack", bargap: 0.3, xaxis: d.axis("ms"), yaxis: sideways(d, cases, "name") }));
  d.legend("memory-chart", memory.map(([, title], index) => ["■", title, parts[index]]));
  d.show("memory-chart", stacked(cases, memory, "MB", parts, "name").reverse(), d.layout(tall(cases), {
    barmode: "group", bargap: 0.25, xaxis: d.axis("MB"), yaxis: sideways(d, cases, "name") }));
}
