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
