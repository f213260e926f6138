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
