// ---------------------------------------------------------------- noise, sweeps, roofline, energy

// The trials of one case over the time of the run.
function drawTrials(d) {
  const name = d.choice("trials-chart", d.cases.map((c) => c.name));
  const c = d.cases.find((one) => one.name === name);
  const trials = c ? [...c.trials].sort((a, b) => a.minute - b.minute) : [];
  const series = (field, shade, shape) => ({
    type: "scatter", mode: "lines+markers", x: trials.map((t) => t.minute), y: trials.map((t) => t[field]),
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
  }));
}

function drawSweeps(d) {
  if (!byId("sweep-chart")) return;
  const here = d.data.sweeps.filter((line) => line.model === d.chosen.model && d.of(line));
  const scenario = d.choice("sweep-chart", [...new Set(here.map((line) => line.scenario))]);
  const lines = here.filter((line) => line.scenario === scenario);
  const points = lines.flatMap((line) => line.points).filter((point) => point.ms > 0);
  const shape = (line) => pick(SHAPES, d.data.precisions.indexOf(line.precision))[0];
  d.legend("sweep-chart", [...d.backendEntries("●", lines),
    ...d.precisionEntries((index) => pick(SHAPES, index)[1], lines), ["○", "in doubt"]]);
  d.show("sweep-chart", points.length ? lines.map((line) => ({
    type: "scatter", mode: d.narrow || points.length > 30 ? "lines+markers" : "lines+markers+text",
    x: line.points.map((p) => p.ms), y: line.points.map((p) => p.ips),
    line: { width: 1.5, color: d.backendColour(line.backend),
      dash: pick(DASHES, d.data.precisions.indexOf(line.precision)).replace(/\d+/g, "$&px") || "solid" },
    marker: { size: 9, color: d.backendColour(line.backend),
      symbol: line.points.map((p) => (p.doubt ? `${shape(line)}-open` : shape(line))), line: { width: 1.5 } },
    text: line.points.map((p) => plain(p.label)), textposition: "top center",
    textfont: { size: 10, color: d.colours.quiet }, cliponaxis: false,
    hoverinfo: "text",
    hovertext: line.points.map((p) => d.lines(
      `${d.data.runs.length > 1 ? `${line.run} ` : ""}${plain(line.label)} ${plain(p.label)}`,
      `p50 ${shortened(p.ms)} ms, ${shortened(p.ips)} items/s`, plain(p.doubt))),
  })) : [], d.layout(d.narrow ? 360 : 520, {
    xaxis: d.axis("p50 latency of a call, ms (log)", points.length ? logarithmic(...d.extent(points.map((p) => p.ms)), d.narrow) : {}),
    yaxis: d.axis("items/s (log)", points.length ? logarithmic(...d.extent(points.map((p) => p.ips)), d.narrow) : {}),
  }));
}

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
  d.show("roofline-chart", [
    ...rates.map((rate) => ({ type: "scatter", mode: "lines", x: [ridge(rate), to], y: [rate.macs_per_s * giga, rate.macs_per_s * giga],
      line: { width: 1.5, color: d.colours.text, dash: style(rate.precision) }, hoverinfo: "text",
      hovertext: `${plain(rate.precision)}: ${shortened(rate.macs_per_s * giga)} GMAC/s` })),
    ...(slope.length ? [{ type: "scatter", mode: "lines", x: slope, y: slope.map((x) => x * memory.bytes_per_s * giga),
      line: { width: 1.5, color: d.colours.quiet }, hoverinfo: "text",
      hovertext: `memory: ${shortened(memory.bytes_per_s * giga)} GB/s` }] : []),
    { type: "scatter", mode: "markers", x: points.map((p) => p.macs_per_byte), y: points.map((p) => p.macs_per_s * giga),
      marker: { size: points.map((p) => (p.suspicious ? 15 : 11)), color: points.map((p) => d.backendColour(p.backend)),
        symbol: points.map((p) => shape(p.precision)), opacity: points.map((p) => (focused(p) ? 1 : 0.35)),
        line: { width: points.map((p) => (p.suspicious ? 3 : 1)), color: points.map((p) => (p.suspicious ? d.colours.bad : d.colours.text)) } },
      hoverinfo: "text",
      hovertext: points.map((p) => d.lines(`${plain(p.model)} ${plain(p.label)}`, `ran at ${plain(p.precision)}`,
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
  }));
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
  d.show("power-chart", [
    ...(one.seconds.length ? [{ type: "scatter", mode: "lines", x: one.seconds, y: one.watts,
      line: { width: 1, color: shade }, hoverinfo: "x+y" }] : []),
    ...one.windows.map((w) => ({ type: "scatter", mode: "lines", x: [w.from, (w.from + w.to) / 2, w.to], y: Array(3).fill(w.watts),
      line: { width: 5, color: w.label === "idle" ? d.colours.quiet : mean }, hoverinfo: "text",
      hovertext: d.lines(plain(w.label), `${shortened(w.watts)} W for ${shortened(w.to - w.from)} s`) })),
  ], d.layout(d.narrow ? 260 : 320, {
    xaxis: d.axis("seconds of the energy pass"), yaxis: d.axis("W", { rangemode: "tozero" }),
  }));
}
