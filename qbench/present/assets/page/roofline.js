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
