// ---------------------------------------------------------------- two runs, by the rules of `qbench compare`

const page = JSON.parse(byId("data").textContent);
const RULES = page.rules;
const LEVELS = ["Same machine and software", "Same machine", "Different machine"];
const CONDITIONS = ["environment", "scenario", "scenario_options", "batch_size", "threads", "streams", "recipe", "device"];
const loaded = new Map(); // by run id, what its file holds

// What the files of runs call; see summary.packed in Python.
function qbenchRun(run) {
  run.cases = run.cases.map((values, index) => {
    const row = { figures: run.moments[index], keys: run.keys[index], energyKey: run.energy_keys[index] };
    run.columns.forEach((name, column) => { row[name] = values[column]; });
    return row;
  });
  loaded.set(run.run_id, run);
}

// The file of a run as a script, which a page from a disk may load, too.
function load(entry) {
  if (loaded.has(entry.run_id)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = entry.file;
    script.addEventListener("load", () => (loaded.has(entry.run_id) ? resolve() : reject()));
    script.addEventListener("error", reject);
    document.head.append(script);
  });
}

// ---------------------------------------------------------------- what goes together

// Each goes with the only one that has the same key, the closest keys first (analysis/matching.py).
function matched(a, b) {
  const pairs = [];
  for (let key = 0; a.length && b.length && key < a[0].keys.length; key++) {
    const grouped = (rows) => {
      const found = new Map();
      for (const row of rows) if (row.keys[key] !== null) found.set(row.keys[key], [...(found.get(row.keys[key]) || []), row]);
      return found;
    };
    const ofA = grouped(a), ofB = grouped(b);
    const found = [...ofA].filter(([value, rows]) => rows.length === 1 && (ofB.get(value) || []).length === 1)
      .map(([value, rows]) => [rows[0], ofB.get(value)[0]]);
    pairs.push(...found);
    const taken = new Set(found.flat());
    a = a.filter((row) => !taken.has(row));
    b = b.filter((row) => !taken.has(row));
  }
  return { pairs, onlyA: a, onlyB: b };
}

// Columns that two cases differ in; a digest that is missing differs (analysis/comparable.py).
const differing = (a, b, names) =>
  names.filter((name) => a[name] !== b[name] || (RULES.digests.includes(name) && a[name] === null));
const otherWork = (a, b) =>
  differing(a, b, [...RULES.work, ...(a.source_format === b.source_format ? ["model_digest"] : [])]);
function otherArtifact(a, b) {
  const found = [...otherWork(a, b), ...differing(a, b, [...RULES.request, "artifact_digest"])];
  if (a.case_id !== b.case_id && found.every((name) => RULES.digests.includes(name))) found.push("case_id");
  return found;
}

function refusal(a, b) {
  if (a.status !== "ok" || b.status !== "ok") {
    const told = [["A", a], ["B", b]].filter(([, row]) => row.status !== "ok")
      .map(([side, row]) => [side, `${row.status || "open"}: ${row.reason}`]);
    if (told.length === 2 && told[0][1] === told[1][1]) return `A and B ${told[0][1]}`;
    return told.map(([side, text]) => `${side} ${text}`).join("; ");
  }
  const shown = (row, name) => row[name] === null ? "not known"
    : name.endsWith("_digest") ? row[name].slice(0, 12) : String(row[name]);
  const fields = otherWork(a, b);
  if (!fields.length) return null;
  return `not the same work: ${fields.map((name) => `${name} ${shown(a, name)} against ${shown(b, name)}`).join(", ")}`;
}

// ---------------------------------------------------------------- figures

// The 97.5 % point of Student's distribution.
const quantile = (freedom) => RULES.quantile.reduceRight((sum, factor) => sum / freedom + factor, 0);

// Welch's interval on the logarithms, of [trials, mean, variance] each (analysis/trials.py).
function welch(a, b) {
  if (!a || !b) return null;
  const [sizeA, meanA, varianceA] = a, [sizeB, meanB, varianceB] = b;
  const shift = meanB - meanA, value = Math.exp(shift);
  if (Math.min(sizeA, sizeB) < RULES.least_rounds) return { value, low: null, high: null };
  const ofA = varianceA / sizeA, ofB = varianceB / sizeB, error = Math.sqrt(ofA + ofB);
  const freedom = (ofA + ofB) ** 2 / (ofA ** 2 / (sizeA - 1) + ofB ** 2 / (sizeB - 1));
  const half = error > RULES.rounding ? quantile(freedom) * error : 0;
  return { value, low: Math.exp(shift - half), high: Math.exp(shift + half) };
}

// Of two figures with intervals of their own: recovered from these (Zou & Donner 2008).
function energyRatio(a, b) {
  if (a.energyKey === null || a.energyKey !== b.energyKey) return null;
  const [ofA, ofB] = [a, b].map((row) => ["", "_low", "_high"].map((end) => row[`energy_mj_per_inference${end}`]));
  const value = ofB[0] / ofA[0];
  if ([...ofA.slice(1), ...ofB.slice(1)].some((end) => end === null || end <= 0)) return { value, low: null, high: null };
  const log = (of, end) => Math.log(of[end] / of[0]);
  return { value, low: value * Math.exp(-Math.hypot(log(ofB, 1), log(ofA, 2))),
    high: value * Math.exp(Math.hypot(log(ofB, 2), log(ofA, 1))) };
}

function compared(a, b) {
  const ratios = Object.fromEntries(RULES.figures.map((name, index) => [name, welch(a.figures[index], b.figures[index])]));
  const differs = otherArtifact(a, b), same = !differs.length;
  const sizes = [a.artifact_size_mb, b.artifact_size_mb];
  const accuracies = [a.accuracy, b.accuracy];
  const equal = a.outputs_digest === b.outputs_digest && a.accuracy === b.accuracy;
  return {
    a, b, differs, same, ...ratios,
    percentile: ratios.p10 ? "p10" : "p50", latency: ratios.p10 || ratios.p50,
    size: sizes.every(Boolean) ? { value: sizes[1] / sizes[0], low: null, high: null } : null,
    energy: energyRatio(a, b),
    accuracy: accuracies.includes(null) ? null : { value: b.accuracy - a.accuracy, equal },
    outputsChanged: same && a.outputs_digest !== null && b.outputs_digest !== null ? a.outputs_digest !== b.outputs_digest : null,
  };
}

// ---------------------------------------------------------------- what may be said

function comparability(a, b) {
  const [ofA, ofB] = [a, b].map((run) => new Map(run.facts.map(([name, ...rest]) => [name, rest])));
  const fields = [];
  for (const name of new Set([...ofA.keys(), ...ofB.keys()])) {
    const first = ofA.get(name), last = ofB.get(name), [, spoils, software] = first || last;
    if (first && last && first[0] === last[0]) continue;
    fields.push({ name, a: first ? first[0] : null, b: last ? last[0] : null, spoils, software });
  }
  const level = a.machine !== b.machine ? 2 : fields.some((field) => field.software) ? 1 : 0;
  const against = (claim) => fields.filter((field) => field.spoils.includes(claim)).map(
    (field) => `${field.name}: ${field.a ?? "not known"} against ${field.b ?? "not known"}`);
  return { level: LEVELS[level], fields, choice: against("choice"),
    regression: [...(level === 2 ? ["they were measured on different machines"] : []), ...against("regression")] };
}

const several = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
const few = (reasons) => reasons.slice(0, 3).join("; ") + (reasons.length > 3 ? `; and ${reasons.length - 3} more` : "");

function statements(a, b, found, pairs) {
  const told = [`A: ${a.run_id}, ${a.name}, ${a.chip}, qbench ${a.qbench}`, `B: ${b.run_id}, ${b.name}, ${b.chip}, qbench ${b.qbench}`];
  if (found.choice.length) {
    told.push({ warn: true, text: `Not comparable: the two were not measured in the same way (${few(found.choice)}). The ratios below tell nothing of machines, backends or versions.` });
  }
  told.push(`${found.level}${found.fields.length ? `; they differ in ${several(found.fields.length, "field")}` : ", set up alike"}.`);
  if (!found.choice.length && found.regression.length) {
    told.push(`Good for a choice, not for telling a regression: ${few(found.regression)}.`);
  }
  told.push("Not paired: two runs, one after the other. Of 100 such comparisons of equal versions 20 to 48 come out different, so there are intervals and no verdicts; for a verdict, measure both in the same rounds of one run.");
  const work = pairs.filter((pair) => !pair.same);
  const columns = [...new Set(work.flatMap((pair) => pair.differs))];
  told.push(`${several(pairs.length, "pair")}: ${pairs.length - work.length} of the same artifact${
    work.length ? `, ${work.length} only of the same work (they differ in ${columns.join(", ")})` : ""}.`);
  for (const run of [a, b]) {
    if (!run.complete) told.push({ warn: true, text: `${run.run_id} is incomplete: it was interrupted, or still goes on.` });
    if (!run.valid) told.push({ warn: true, text: `${run.run_id} was found broken as a whole by its gate.` });
  }
  if (pairs.some((pair) => pair.accuracy && !pair.accuracy.equal)) {
    told.push("Accuracies are the difference of the two published figures, not taken item by item; `qbench compare` does that, with an interval.");
  }
  return told;
}

// ---------------------------------------------------------------- on the page

const times = (value) => (value >= 0.5 && value < 2 ? value.toFixed(3) : shortened(value));
const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(2)}`;
const differs = (pair, name) => {
  const texts = [pair.a, pair.b].map((row) => (row[name] === null ? "–" : String(row[name])) +
    (name === "precision" && row.variant ? ` [${row.variant}]` : ""));
  return texts[0] === texts[1] ? texts[0] : texts.join(" → ");
};
function shows({ latency }) {
  if (!latency) return null;
  if (latency.low === null) return "too few trials";
  return latency.low <= 1 && latency.high >= 1 ? "holds 1" : latency.low > 1 ? "above 1" : "below 1";
}

// Columns: title, what a cell says, and whether it is a ratio with an interval.
function columnsOf(pairs) {
  const told = CONDITIONS.filter((name) => new Set(pairs.map((pair) => differs(pair, name))).size > 1
    || pairs.some((pair) => pair.a[name] !== pair.b[name]));
  const words = ["model", "backend", "precision", ...told].map((name) => [name.replace("_", " "), (pair) => differs(pair, name)]);
  const ratio = (title, name) => [title, (pair) => pair[name], true];
  const latency = [...new Set(pairs.filter((pair) => pair.latency).map((pair) => pair.percentile))].join("/");
  const figures = [
    ratio(latency || "latency", "latency"), ["shows", shows], ratio("p50", "p50"), ratio("p99", "p99"),
    ratio("items/s", "throughput"), ratio("memory", "memory"), ratio("size", "size"), ratio("load", "load"),
    ratio("energy", "energy"),
    ["accuracy Δ pp", ({ accuracy }) => accuracy && points(accuracy.value) + (accuracy.equal ? "" : " (not paired)")],
    ["outputs", ({ outputsChanged }) => (outputsChanged ? "changed" : null)],
    ["same", ({ same }) => (same ? "artifact" : "work")],
  ];
  return [...words, ...figures.filter(([, cell]) => pairs.some((pair) => cell(pair) !== null))];
}

function drawPairs(pairs) {
  const table = byId("pairs"), head = table.tHead.rows[0], body = table.tBodies[0];
  const columns = columnsOf(pairs);
  head.textContent = body.textContent = "";
  for (const [title, , number] of columns) {
    const cell = element("th", title, head);
    cell.scope = "col";
    if (number) cell.className = "number";
  }
  for (const pair of pairs) {
    const row = element("tr", undefined, body);
    for (const [, value, number] of columns) {
      const cell = element("td", undefined, row), found = value(pair);
      if (!number || found === null) element("bdi", found ?? "–", cell);
      else {
        cell.append(times(found.value));
        if (found.low !== null) element("small", `${times(found.low)} … ${times(found.high)}`, cell);
      }
      if (number) cell.className = "number";
    }
  }
}

function drawFields(fields) {
  const body = byId("fields").tBodies[0];
  body.textContent = "";
  const spoiling = [...fields.filter((field) => field.spoils.length), ...fields.filter((field) => !field.spoils.length)];
  for (const { name, a, b, spoils } of spoiling) {
    const row = element("tr", undefined, body);
    const first = element("th", undefined, row);
    first.scope = "row";
    element("bdi", name, first);
    for (const value of [a, b]) element("bdi", value ?? "not known", element("td", undefined, row));
    const last = element("td", spoils.length ? undefined : "–", row);
    if (spoils.length) element("span", spoils.join(", "), last).className = "noisy";
  }
  byId("differences").hidden = !fields.length;
}

function drawRest(found, refused) {
  const body = byId("left").tBodies[0];
  body.textContent = "";
  const label = (row) => `${row.model} ${row.backend} ${row.precision}`;
  const reasons = new Map();
  const add = (row, why) => reasons.set(why, [...(reasons.get(why) || []), label(row)]);
  for (const row of found.onlyA) add(row, "only in A");
  for (const row of found.onlyB) add(row, "only in B");
  for (const [row, why] of refused) add(row, why);
  for (const [why, labels] of reasons) {
    const row = element("tr", undefined, body);
    element("bdi", [...new Set(labels)].join(", "), element("td", undefined, row));
    element("bdi", why, element("td", undefined, row));
  }
  byId("rest").hidden = !reasons.size;
}

function drawStatements(told) {
  const list = byId("told");
  list.textContent = "";
  for (const line of told) {
    const item = element("li", undefined, list);
    if (line.warn) element("strong", line.text, item).className = "warn";
    else element("bdi", line, item);
  }
}

function filter() {
  const rows = [...byId("pairs").tBodies[0].rows];
  const words = byId("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  byId("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${several(rows.length, "pair")}`;
}

function drawComparison(a, b) {
  const found = matched(a.cases, b.cases);
  const refused = [], pairs = [];
  for (const [first, last] of found.pairs) {
    const reason = refusal(first, last);
    if (reason) refused.push([first, reason]);
    else pairs.push(compared(first, last));
  }
  const common = comparability(a, b);
  drawStatements(statements(a, b, common, pairs));
  drawFields(common.fields);
  drawPairs(pairs);
  drawRest(found, refused);
  byId("verdict").hidden = false;
  byId("compared").hidden = !pairs.length;
  filter();
  byId("state").textContent = pairs.length ? "" : "These two have no case that can be compared.";
}

// ---------------------------------------------------------------- which two

const entryOf = (id) => page.runs.find((run) => run.run_id === id);

async function show() {
  const address = location.hash;
  const asked = new URLSearchParams(address.slice(1));
  const entries = ["a", "b"].map((side) => entryOf(asked.get(side)));
  ["a", "b"].forEach((side, index) => { byId(`choose-${side}`).value = entries[index]?.run_id || ""; });
  for (const id of ["verdict", "compared", "rest"]) byId(id).hidden = true;
  const unknown = ["a", "b"].find((side, index) => asked.get(side) && !entries[index]);
  if (unknown) byId("state").textContent = `This site has no run ${asked.get(unknown)}.`;
  else if (!entries[0] || !entries[1]) byId("state").textContent = "Choose two runs.";
  else {
    byId("state").textContent = "Loading …";
    try {
      await Promise.all(entries.map(load));
    } catch {
      byId("state").textContent = "The figures of one of the two cannot be loaded.";
      return;
    }
    if (address !== location.hash) return; // others have been chosen meanwhile
    drawComparison(...entries.map((entry) => loaded.get(entry.run_id)));
  }
}

function choose(a, b) {
  const state = new URLSearchParams();
  if (a) state.set("a", a);
  if (b) state.set("b", b);
  location.hash = state;
}

function setUpComparison() {
  const selects = ["a", "b"].map((side) => byId(`choose-${side}`));
  for (const select of selects) {
    element("option", "choose a run", select).value = "";
    for (const run of page.runs) element("option", run.label, select).value = run.run_id;
    select.addEventListener("change", () => choose(...selects.map((one) => one.value)));
  }
  byId("swap").addEventListener("click", () => choose(...selects.map((one) => one.value).reverse()));
  byId("filter-text").addEventListener("input", filter);
  byId("choose").addEventListener("submit", (event) => event.preventDefault());
  byId("choose").hidden = false;
  addEventListener("hashchange", show);
  show();
}

setUpScheme(() => {});
setUpComparison();
