// ---------------------------------------------------------------- a chart as a picture

// With its title and its legend, which stand beside the chart on the page. A Blob, SVG or PNG.
async function picture(id, as) {
  const chart = byId(id), figure = chart.closest("figure"), colours = theme();
  const width = 1000, edge = 16, family = getComputedStyle(document.body).fontFamily;
  const drawn = await Plotly.toImage(chart, { format: "svg", width: width - 2 * edge, height: chart.offsetHeight });
  const plot = new DOMParser().parseFromString(decodeURIComponent(drawn.slice(drawn.indexOf(",") + 1)), "image/svg+xml").documentElement;
  const space = "http://www.w3.org/2000/svg";
  const make = (name, attributes, parent) => {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };
  const whole = make("svg", { xmlns: space, width, "font-family": family });
  const ground = make("rect", { width, fill: colours.back }, whole);
  const write = (text, x, y, size, fill) => {
    make("text", { x, y, fill, "font-size": size }, whole).textContent = text;
  };
  const ruler = document.createElement("canvas").getContext("2d");
  const long = (text, size) => {
    ruler.font = `${size}px ${family}`;
    return ruler.measureText(text).width;
  };
  write(figure.querySelector("h3").textContent, edge, 30, 18, colours.text);
  write(told.get(id).about.slice(0, 140), edge, 50, 13, colours.quiet);
  let x = edge, y = 74;
  for (const entry of byId(`${id}-legend`).children) {
    const mark = entry.firstElementChild, line = mark.querySelector("line"), name = entry.lastChild.textContent;
    const room = 40 + long(name, 13);
    if (x + room > width - edge && x > edge) [x, y] = [edge, y + 20];
    if (line) make("line", { x1: x, x2: x + 32, y1: y - 4, y2: y - 4, stroke: getComputedStyle(mark).color, "stroke-width": 1.5, "stroke-dasharray": line.getAttribute("stroke-dasharray") }, whole);
    else write(mark.textContent, x + 10, y, 13, getComputedStyle(mark).color);
    write(name, x + (line ? 34 : 24), y, 13, colours.text);
    x += room + 12;
  }
  const height = y + 16 + chart.offsetHeight;
  for (const [key, value] of Object.entries({ x: edge, y: y + 10 })) plot.setAttribute(key, value);
  whole.append(plot);
  whole.setAttribute("height", height);
  whole.setAttribute("viewBox", `0 0 ${width} ${height}`);
  ground.setAttribute("height", height);
  const text = new XMLSerializer().serializeToString(whole);
  return as === "svg" ? new Blob([text], { type: "image/svg+xml" }) : painted(text, width, height);
}

// At two dots for a pixel, fit for print.
async function painted(svg, width, height) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * width, 2 * height];
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}
