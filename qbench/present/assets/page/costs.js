// ---------------------------------------------------------------- machines and what they cost

function drawCosts(d) {
  if (!byId("costs-chart")) return;
  const { points, machines, axes } = d.data.costs;
  const title = d.choice("costs-chart", axes.map((axis) => axis.title));
  const axis = axes.find((one) => one.title === title);
  const some = points.filter((p) => p.model === d.chosen.model && d.of(p) && p[axis.name] !== null
    && (!axis.currency || p.currency === axis.currency));
  const shape = (p) => pick(SHAPES, machines.indexOf(p.machine));
  d.legend("costs-chart", [...d.backendEntries("●", some),
    ...machines.filter((name) => some.some((p) => p.machine === name)).map((name) => [pick(SHAPES, machines.indexOf(name))[1], name]),
    ["○", "in doubt"]]);
  const rate = column("throughput", "items/s", (p) => p.ips, { low: (p) => p.ips_low, high: (p) => p.ips_high, text: (p) => p.texts.throughput_ips });
  const texts = [["throughput_ips", ""], ["ips_per_price", "per price"], ["ips_per_hourly_price", "per hourly price"], ["ips_per_watt", "per watt"],
    ["machines_needed", "machines"], ["owned_per_million", "bought, a million"], ["rented_per_million", "rented, a million"]];
  d.show("costs-chart", some.length ? [{
    type: "scatter", mode: "markers", x: some.map((p) => p[axis.name]), y: some.map((p) => p.ips),
    error_y: d.bars(some, rate), customdata: some.map((p) => p.anchor),
    marker: { size: 11, color: some.map((p) => d.backendColour(p.backend)),
      symbol: some.map((p) => (p.doubt ? `${shape(p)[0]}-open` : shape(p)[0])), line: { width: 1.5, color: some.map((p) => d.backendColour(p.backend)) } },
    hoverinfo: "text",
    hovertext: some.map((p) => d.lines(plain(clipped(p.label, 120)), plain(p.machine),
      ...texts.map(([name, words]) => (p.texts[name] ? `${words} ${plain(p.texts[name])}` : "")), plain(clipped(p.doubt, 300)))),
  }] : [], d.layout(d.narrow ? 340 : 440, {
    xaxis: d.axis(axis.title, { rangemode: "tozero" }), yaxis: d.axis("items/s", { rangemode: "tozero" }),
  }), {
    columns: [word("machine", "machine"), word("model", "model"), word("case", "label"),
      rate,
      column(axis.title, "", (p) => p[axis.name])],
    items: some,
  });
}
