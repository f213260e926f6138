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
