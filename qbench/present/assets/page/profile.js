// ---------------------------------------------------------------- where the time of an inference goes

function drawProfile(d) {
  if (!byId("profile-chart")) return;
  const cases = d.data.profile.filter((c) => c.model === d.chosen.model && d.of(c) && c.condition === d.chosen.condition);
  const kinds = cases.length ? cases[0].kinds.filter((kind) => cases.some((c) => kind in c.share)) : [];
  const shade = (index) => pick(d.colours.palette, index);
  // A pattern besides the colour, for those who cannot tell the colours apart.
  const pattern = (index) => pick(PATTERNS, index);
  const upwards = [...cases].reverse();
  const named = (c) => (c.of === "time" ? c.label : `${c.label} (operators)`);
  const told = (c, kind) => d.lines(plain(clipped(c.label, 80)), plain(clipped(kind, 80)),
    `${shortened(c.share[kind])} % of the ${c.of}`,
    [kind in c.us ? `${shortened(c.us[kind])} µs` : "", `${c.operators[kind]} operators`].filter(Boolean).join(", "));
  d.legend("profile-chart", kinds.map((kind, index) => [pattern(index)[1], clipped(kind, 40), shade(index)]));
  d.show("profile-chart", kinds.map((kind, index) => ({
    type: "bar", orientation: "h", y: upwards.map((c) => c.anchor), x: upwards.map((c) => c.share[kind] ?? null),
    customdata: upwards.map((c) => c.anchor), hoverinfo: "text", textposition: "none",
    marker: { color: shade(index), pattern: { shape: pattern(index)[0], fgcolor: d.colours.back, fillmode: "overlay", solidity: 0.25, size: 7 } },
    hovertext: upwards.map((c) => (kind in c.share ? told(c, kind) : "")),
  })), d.layout(tall(cases), {
    barmode: "stack", bargap: 0.3, xaxis: d.axis("%", { range: [0, 100] }),
    yaxis: sideways(d, cases.map((c) => ({ ...c, named: named(c) })), "named"),
  }), { items: cases.flatMap((c) => c.kinds.filter((kind) => kind in c.share).map((kind) => ({ ...c, kind }))),
    columns: [...whose(d), word("type", "kind"), column("share", "%", (c) => c.share[c.kind]), word("of", "of"),
      column("time", "µs", (c) => c.us[c.kind] ?? null), column("operators", "", (c) => c.operators[c.kind])] });
}
