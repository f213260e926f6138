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
