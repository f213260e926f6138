// ---------------------------------------------------------------- trends over the nights

function drawTrend(charts, chosen) {
  const d = drawing({ runs: [], cases: [], backends: [], precisions: [] }, {});
  const series = charts.cases[chosen].series;
  const colour = (index) => pick(d.colours.palette, index);
  d.legend("trend-chart", series.map((s, index) => [pick(SHAPES, index)[1], s.machine, colour(index)]));
  const times = (s) => s.nights.map((night) => night.started);
  const values = (s) => s.nights.map((night) => night.value);
  const all = series.flatMap(values);
  const traces = series.flatMap((s, index) => [{
    type: "scatter", mode: "lines", x: times(s), y: s.nights.map((night) => night.level),
    line: { color: colour(index), width: 2, shape: "hv" }, hoverinfo: "skip",
  }, {
    type: "scatter", mode: "markers", x: times(s), y: values(s),
    marker: { color: colour(index), size: d.narrow ? 6 : 8,
      symbol: s.nights.map((night) => pick(SHAPES, index)[0] + (night.smoothed ? "-open" : "")) },
    hoverinfo: "text",
    hovertext: s.nights.map((night) => d.lines(plain(night.run_id), night.started.slice(0, 16).replace("T", " "),
      `${plain(charts.metric)} ${shortened(night.value)} ${plain(charts.unit)}`,
      night.smoothed ? "taken for an outlier" : "")),
  }]);
  const cuts = series.flatMap((s, index) => s.changes.map((change) => ({
    type: "line", yref: "paper", y0: 0, y1: 1, x0: change.started, x1: change.started,
    line: { color: colour(index), width: 1, dash: "dot" },
  })));
  // Over two days at the least: of a single night plotly would show milliseconds.
  const when = series.flatMap(times).map((time) => Date.parse(time)), day = 24 * 3600e3;
  const [first, last] = [Math.min(...when), Math.max(...when)];
  const range = last - first < day ? { range: [first - day, last + day].map((at) => new Date(at).toISOString()) } : {};
  d.show("trend-chart", all.length ? traces : [], d.layout(d.narrow ? 320 : 440, {
    xaxis: d.axis("", { type: "date", ...range }),
    yaxis: d.axis(`${plain(charts.metric)}${charts.unit ? `, ${plain(charts.unit)}` : ""}`),
    shapes: cuts,
  }));
}
