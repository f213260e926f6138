// ---------------------------------------------------------------- speed-up over fp32

const MOST_LINES = 60;

// A heat map: a row for each model and backend, a column for each precision, on a logarithmic scale
// around 1. The cells say their figures, so that nothing hangs on colour alone.
function drawSpeedup(d) {
  const { data, colours, narrow } = d;
  const row = (c) => JSON.stringify([c.run, c.model, c.backend]), place = (c) => JSON.stringify([row(c), c.kind]);
  const all = data.cases.filter((c) => c.speedup > 0 && c.condition === d.chosen.condition && d.of(c));
  const one = new Set(all.map(row)).size > MOST_LINES; // then of the chosen model alone
  const quick = all.filter((c) => !one || c.model === d.chosen.model)
    .sort((a, b) => data.precisions.indexOf(a.precision) - data.precisions.indexOf(b.precision));
  const kinds = [...new Set(quick.map((c) => c.kind))];
  const cells = new Map(quick.map((c) => [place(c), c]));
  const rows = [...new Set(data.cases.filter((c) => cells.has(place(c))).map(row))];
  const grid = (of, none = null) => rows.map((key) => kinds.map((kind) => {
    const c = cells.get(JSON.stringify([key, kind]));
    return c ? of(c) : none;
  }));
  const named = (key) => {
    const [run, model, backend] = JSON.parse(key).map((name) => plain(clipped(name, narrow ? 18 : 30)));
    return (d.several ? `${run} ` : "") + model + (narrow ? "<br>" : " ") + backend;
  };
  const speedup = figureOf("speed-up", "× fp32", "speedup", ["speedup_low", "speedup_high"]);
  const farthest = Math.max(0.2, ...quick.map((c) => Math.abs(Math.log2(c.speedup))));
  d.legend("speedup-chart", [["■", "slower than fp32", colours.slower], ["■", "faster", colours.faster],
    ["≈", "the interval includes 1"], ["–", "no interval"], ["?", "in doubt"]]);
  d.show("speedup-chart", quick.length ? [{
    type: "heatmap", x: kinds, y: rows, xgap: 2, ygap: 2, showscale: false,
    z: grid((c) => Math.log2(c.speedup)), zmin: -farthest, zmax: farthest,
    colorscale: [[0, colours.slower], [0.5, colours.even], [1, colours.faster]],
    text: grid((c) => `${c.texts.speedup.split(" ")[0]} ${verdict(c)}${c.doubt ? "?" : ""}`.trim(), ""),
    texttemplate: "%{text}", textfont: { color: colours.text, size: narrow ? 10 : 13 },
    customdata: grid((c) => c.anchor), hoverinfo: "text", hoverongaps: false,
    hovertext: grid((c) => d.tip(c, plain(clipped(c.model, 80)), d.said(c, "speedup", "speed-up"), MEANINGS[verdict(c)])),
  }] : [], d.layout(70 + (narrow ? 38 : 30) * rows.length, {
    margin: { l: 46, r: 12, t: 12, b: 30 },
    xaxis: d.axis("", { type: "category", showgrid: false, tickangle: 0, tickmode: "array", tickvals: kinds,
      ticktext: kinds.map((kind) => (narrow ? plain(clipped(kind, 30)).replace(/[- ]/g, "$&<br>") : plain(clipped(kind, 30)))),
      tickfont: { size: narrow ? 9 : 12 } }),
    yaxis: d.axis("", { type: "category", showgrid: false, autorange: "reversed", tickmode: "array", tickvals: rows,
      ticktext: rows.map(named), tickfont: { size: narrow ? 9 : 12 } }),
  }), { about: d.about(one ? d.chosen.model : "all models", d.chosen.condition),
    items: quick, columns: [...whose(d), word("precision", "kind"), speedup,
      column("meaning", "", (c) => MEANINGS[verdict(c)]), word("in doubt", "doubt")] });
}

const MEANINGS = { "≈": "the interval includes 1", "–": "no interval", "": "the interval excludes 1" };
const verdict = (c) => (c.speedup_low === null ? "–" : c.speedup_low <= 1 && 1 <= c.speedup_high ? "≈" : "");
