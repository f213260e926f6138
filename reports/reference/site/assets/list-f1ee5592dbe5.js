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

// ---------------------------------------------------------------- light or dark

// As the system has it, until the button is pressed: for this page, or for all pages of its site.
// ``changed`` is called after every change.
function setUpScheme(changed) {
  const root = document.documentElement, button = byId("scheme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const place = root.dataset.site ? new URL(root.dataset.site, location.href).pathname : location.pathname;
  const key = `qbench-scheme ${place}`;
  const dark = () => (root.dataset.scheme ? root.dataset.scheme === "dark" : system.matches);
  const apply = () => {
    button.setAttribute("aria-pressed", String(dark()));
    changed();
  };
  try {
    const kept = localStorage.getItem(key);
    if (kept === "dark" || kept === "light") root.dataset.scheme = kept;
  } catch { /* A file may have no storage: then the choice lasts until the page is left. */ }
  button.addEventListener("click", () => {
    root.dataset.scheme = dark() ? "light" : "dark";
    try {
      localStorage.setItem(key, root.dataset.scheme);
    } catch { /* as above */ }
    apply();
  });
  system.addEventListener("change", apply);
  button.hidden = false;
  button.setAttribute("aria-pressed", String(dark()));
}

// ---------------------------------------------------------------- lists of a site, and its search

const MOST_FOUND = 40;

// Everything that has a page: [kind, name, address].
function setUpSearch(entries) {
  const form = byId("find"), input = byId("find-text"), list = byId("found"), count = byId("found-count");
  const known = entries.map(([kind, name, address]) => ({ kind, name, address, text: `${kind} ${name}`.toLowerCase() }));

  function find() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = words.length ? known.filter((entry) => words.every((word) => entry.text.includes(word))) : [];
    list.textContent = "";
    for (const { kind, name, address } of found.slice(0, MOST_FOUND)) {
      const item = element("li", undefined, list);
      element("span", `${kind} `, item).className = "quiet";
      const link = element("a", undefined, item);
      link.href = address;
      element("bdi", name, link);
    }
    list.hidden = !found.length;
    const more = found.length > MOST_FOUND ? `, the first ${MOST_FOUND} of them` : "";
    count.textContent = words.length ? `${found.length} found${more}` : "";
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", find);
  find();
}

setUpScheme(() => {});
if (byId("cases")) setUpTable();
const listed = JSON.parse(byId("data").textContent);
if (listed.search) setUpSearch(listed.search);
