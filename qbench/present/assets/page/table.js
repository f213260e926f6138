"use strict";
// The page's script, in parts that are one script on the page, in the order of ``PARTS`` in render.py.
// Text from the data reaches the page through text nodes only, and plotly through plain(), for plotly
// reads some markup.

const byId = (id) => document.getElementById(id);

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Three significant digits, without an exponent, as in the table.
function shortened(value) {
  if (value === null) return "–";
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(Number(value.toPrecision(3))))));
  return Number(value.toPrecision(3)).toLocaleString("en", {
    minimumFractionDigits: Math.min(20, digits), maximumFractionDigits: Math.min(20, digits) });
}

// ---------------------------------------------------------------- the case table

// What is chosen also stands in the address (#status=ok&sort=-latency_p50_ms), to be passed on.
function setUpTable() {
  const table = byId("cases"), form = byId("filters"), search = byId("filter-text");
  const selects = [...form.querySelectorAll("select")];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const asked = new URLSearchParams(location.hash.slice(1));
  let sort = asked.get("sort") || "";

  const matches = (value, wanted) => wanted.startsWith("!") ? value !== wanted.slice(1) : value === wanted;

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(
        selects.every((select) => !select.value || matches(row.dataset[select.dataset.column], select.value)) &&
        words.every((word) => text.includes(word))
      );
      shown += !row.hidden;
    }
    byId("shown").textContent = `${shown} of ${rows.length} ${table.dataset.noun || "cases"}`;
  }

  function order() {
    const name = sort.replace(/^-/, ""), sign = sort.startsWith("-") ? -1 : 1;
    const column = heads.findIndex((head) => head.dataset.name === name);
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const number = column >= 0 && heads[column].classList.contains("number");
    const value = (row) => row.cells[column].dataset.sort;
    const compare = (a, b) => {
      const x = value(a), y = value(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (number ? x - y : x.localeCompare(y, "en", { numeric: true }));
    };
    table.tBodies[0].append(...(column < 0 ? rows : [...rows].sort(compare)));
  }

  function remember() {
    const state = new URLSearchParams();
    if (search.value) state.set("q", search.value);
    for (const select of selects) if (select.value !== usual(select)) state.set(select.dataset.column, select.value);
    if (sort) state.set("sort", sort);
    history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
  }

  const usual = (select) => [...select.options].find((option) => option.defaultSelected)?.value || "";

  search.value = asked.get("q") || "";
  for (const select of selects) {
    const value = asked.get(select.dataset.column);
    if ([...select.options].some((option) => option.value === value)) select.value = value;
  }
  form.hidden = false;
  form.addEventListener("input", () => { filter(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const head of heads) {
    head.firstElementChild.addEventListener("click", () => {
      const name = head.dataset.name;
      sort = sort === name ? `-${name}` : sort === `-${name}` ? "" : name;
      order();
      remember();
    });
  }
  order();
  filter();
}
