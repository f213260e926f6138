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
