// ---------------------------------------------------------------- energy

// A chart for each group of energies that may be compared with each other.
function drawEnergy(d) {
  d.data.energy.forEach((group, index) => {
    const id = `energy-${index + 1}-chart`;
    if (!byId(id)) return;
    const some = group.filter((c) => c.model === d.chosen.model && d.of(c));
    const upwards = [...some].reverse();
    const above = column("energy", "mJ", (c) => c.mj, { low: (c) => c.low, high: (c) => c.high, text: (c) => c.texts.energy_mj_per_inference });
    const whole = column("gross", "mJ", (c) => c.gross, { text: (c) => c.texts.energy_gross_mj_per_inference });
    const trace = (fact, title, index, more) => ({
      type: "bar", orientation: "h", y: upwards.map((c) => c.anchor), x: upwards.map(fact.of), customdata: upwards.map((c) => c.anchor),
      marker: d.patterned(index, pick(d.colours.parts, index)), hoverinfo: "text", textposition: "none", ...more,
      hovertext: upwards.map((c) => d.tip(c, `${title}: ${plain(fact.text(c) || "–")}`)),
    });
    const both = some.some((c) => c.gross !== null);
    d.legend(id, partEntries(d, [["", both ? "above idle" : "energy"], ...(both ? [["", "gross: with the idle share"]] : [])]));
    d.show(id, some.length ? [...(both ? [trace(whole, "gross", 1)] : []),
      trace(above, both ? "above idle" : "energy", 0, { error_x: d.bars(upwards, above) })] : [],
    d.layout((both ? 1.4 : 1) * tall(some), { barmode: "group", bargap: 0.3,
      xaxis: d.axis("mJ per inference", { rangemode: "tozero" }), yaxis: sideways(d, some, "label") }),
    { items: some, columns: [...whose(d), above, ...(both ? [whole] : []), word("disturbed", "doubt")] });
  });
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
  const windows = one.windows.map((w) => ({ ...w, what: "window" }));
  const readings = one.seconds.map((from, index) => ({ what: "reading", from, watts: one.watts[index] }));
  const columns = [word("what", "what"), word("of", "label"), column("from", "s", (w) => w.from),
    column("to", "s", (w) => w.to ?? null), column("power", "W", (w) => w.watts)];
  d.show("power-chart", [
    ...(one.seconds.length ? [{ type: "scatter", mode: "lines", x: one.seconds, y: one.watts,
      line: { width: 1, color: shade }, hoverinfo: "x+y" }] : []),
    ...one.windows.map((w) => ({ type: "scatter", mode: "lines", x: [w.from, (w.from + w.to) / 2, w.to], y: Array(3).fill(w.watts),
      line: { width: 5, color: w.label === "idle" ? d.colours.quiet : mean }, hoverinfo: "text",
      hovertext: d.lines(plain(clipped(w.label, 120)), `${shortened(w.watts)} W for ${shortened(w.to - w.from)} s`) })),
  ], d.layout(d.narrow ? 260 : 320, {
    xaxis: d.axis("seconds of the energy pass"), yaxis: d.axis("W", { rangemode: "tozero" }),
  }), { about: name, columns, items: [...windows, ...readings], brief: { columns, items: windows } });
}
