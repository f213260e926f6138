// ---------------------------------------------------------------- a figure's data

// Every chart is drawn from ``items``, and told by ``columns`` of them: as a table beneath it, and as
// CSV. A column has a ``head``, a ``unit``, what it is ``of`` an item, and where the figure has an
// interval also ``low``, ``high`` and ``text``, which holds it rounded.
const told = new Map(); // by the chart's id: { columns, items, about, brief }
const MOST_ROWS = 300;

const column = (head, unit, of, more = {}) => ({ head, unit, of, ...more });
const word = (head, name) => column(head, "", (item) => item[name]);
// A column of the case table, with its interval if it has one, in the words of ``texts``.
const figureOf = (head, unit, value, ends = [], scale = 1) => {
  const scaled = (name) => (item) => (item[name] === null ? null : Number((scale * item[name]).toPrecision(6)));
  const [low, high] = ends.map(scaled);
  return column(head, unit, scaled(value), { low, high, text: (item) => item.texts[value] });
};

function tell(id, data) {
  const figure = byId(id).closest("figure"), tools = figure.querySelector(".tools");
  if (!tools) return;
  told.set(id, data);
  byId(`${id}-about`).textContent = data.about;
  tools.hidden = false;
  const table = tools.querySelector("details");
  table.ontoggle = () => tabulate(id);
  tabulate(id);
  for (const button of tools.querySelectorAll("button")) button.onclick = () => download(id, button.dataset.as);
}

// The table is made when it is looked at. A case's name leads to the case.
function tabulate(id) {
  const details = byId(id).closest("figure").querySelector(".tools details");
  const holder = details.querySelector(".wide");
  holder.textContent = "";
  if (!details.open) return;
  const { columns, items } = told.get(id).brief || told.get(id);
  const table = element("table", undefined, holder);
  table.className = "figures";
  const head = element("tr", undefined, element("thead", undefined, table));
  for (const { head: title, unit, of } of columns) {
    const cell = element("th", title, head);
    cell.scope = "col";
    if (items.some((item) => typeof of(item) === "number")) cell.className = "number";
    if (unit) element("span", ` ${unit}`, cell).className = "unit";
  }
  const body = element("tbody", undefined, table);
  for (const item of items.slice(0, MOST_ROWS)) {
    const row = element("tr", undefined, body);
    for (const { head: title, of, text } of columns) {
      const value = of(item), cell = element("td", undefined, row);
      if (typeof value === "number") cell.className = "number";
      const shown = value === null || value === undefined || value === "" ? "–"
        : text?.(item) ?? (typeof value === "number" ? shortened(value) : value);
      if (title === "case" && item.anchor) element("a", shown, cell).href = `#${item.anchor}`;
      else element("bdi", shown, cell);
    }
  }
  if (items.length > MOST_ROWS) element("p", `The first ${MOST_ROWS} of ${items.length} rows; the CSV holds them all.`, holder).className = "quiet";
}

// ---------------------------------------------------------------- downloads

// What a spreadsheet would take for a formula gets an apostrophe before it, as in ``qbench export``.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^'*[=+\-@＝＋－＠\t\r\n]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function csv({ columns, items }) {
  const plainly = columns.flatMap(({ head, unit, of, low, high }) => [
    [head, of], ...(low ? [[`${head} low`, low], [`${head} high`, high]] : []),
  ].map(([name, value]) => [unit ? `${name} (${unit})` : name, value]));
  const lines = [plainly.map(([name]) => name), ...items.map((item) => plainly.map(([, of]) => of(item)))];
  return lines.map((line) => `${line.map(csvCell).join(",")}\r\n`).join("");
}

const fileName = (...parts) =>
  parts.map((part) => part.replace(/[^A-Za-z0-9._]+/g, "-").replace(/^[-.]+|-+$/g, "").slice(0, 60)).filter(Boolean).join("-");

function save(name, content) {
  const link = element("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function download(id, as) {
  const data = told.get(id), name = `${fileName("qbench", id.replace(/-chart$/, ""), data.about)}.${as}`;
  if (as === "csv") save(name, new Blob([csv(data)], { type: "text/csv;charset=utf-8" }));
  else save(name, await picture(id, as));
}
