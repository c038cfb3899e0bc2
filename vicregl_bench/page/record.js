// The dialog that shows a record.

const section = (title, ...children) => h("section", {}, h("h3", {}, title), ...children);
const listOf = (texts) => h("ul", {}, texts.map((text) => h("li", {}, text)));

// pairs of a term and a text; those without one are left out
function terms(pairs) {
  const given = pairs.filter(([, text]) => text !== null && text !== undefined && text !== "");
  return h("dl", {}, given.flatMap(([term, text]) => [h("dt", {}, term), h("dd", {}, String(text))]));
}

function flattened(tree, prefix = "") {
  return Object.entries(tree).flatMap(([name, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? flattened(value, `${prefix}${name}.`)
      : [[`${prefix}${name}`, Array.isArray(value) ? value.join(", ") : String(value)]],
  );
}

const folded = (title, ...children) =>
  h("details", {}, h("summary", {}, title), h("div", { class: "scroll" }, ...children));

// A table of scores with a bar in each row, as wide as the score is of the largest
function barTable(caption, head, body) {
  const largest = Math.max(...body.map(({ score }) => score ?? 0), 1e-9);
  const row = ({ name, score, cells }) => {
    const width = `${((100 * Math.max(score ?? 0, 0)) / largest).toFixed(1)}%`;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      cells.map((text) => h("td", { class: "number" }, text)),
      h("td", { class: "bar", "aria-hidden": "true" }, h("span", { style: `width:${width}` })),
    );
  };
  return h(
    "table",
    { class: "numbers" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)), h("td"))),
    h("tbody", {}, body.map(row)),
  );
}

function bestText(run, record) {
  if (run.score === null) return [`${run.metric}: ${run.status}`];
  const point = record.curve.find((one) => one.best)?.point;
  const tried = new Set(record.curve.map((one) => one.point)).size;
  return [
    `${run.metric} ${fixed(run.score, 2)}${run.std === null ? "" : ` ± ${fixed(run.std, 2)}`}`,
    `95 % interval over pictures ${fixed(run.low)} to ${fixed(run.high)}`,
    ...(point ? [`at ${point}`] : []),
    plural(run.seeds, "seed"),
    ...(tried > 1 ? [`chosen on ${record.record.task.select}`] : []),
  ];
}

function curveTable(run, curve) {
  return barTable(
    `${run.metric} of every point, mean and standard deviation over seeds`,
    ["Point", run.metric, "±", "Diverged"],
    curve.map((point) => ({
      name: point.point + (point.best ? " (best)" : ""),
      score: point.score,
      cells: [fixed(point.score, 2), fixed(point.std, 2), String(point.diverged || "")],
    })),
  );
}

function classTable(run, byClass) {
  const sorted = Object.entries(byClass).sort(([, a], [, b]) => last((x, y) => y - x)(a, b));
  return barTable(
    `${run.metric} by class, mean over seeds`,
    ["Class", run.metric],
    sorted.map(([name, score]) => ({ name, score, cells: [fixed(score, 2)] })),
  );
}

function recordBody(run, both) {
  const { record, curve } = both;
  const { task, checkpoint, data, cost, environment } = record;
  const file = new Blob([JSON.stringify(record, null, 2) + "\n"], { type: "application/json" });
  const byClass = record.best?.by_class ?? {};
  const others = Object.entries(record.best?.scores ?? {}).filter(([, score]) => score !== null);
  const { notes, coverage, card } = checkpoint;
  return [
    h("p", {}, `${task.title}; ${protocolText(run)}; ${run.method}, ${run.backbone}`),
    h("p", { class: "best" }, bestText(run, both).join(", ")),
    h(
      "p",
      {},
      h("a", { href: URL.createObjectURL(file), download: run.file }, "JSON of this record"),
      ` ${run.file}`,
    ),
    run.marks.length ? section("Notes on this record", listOf(run.marks)) : null,
    section(
      "Deviations from the protocol",
      run.deviations.length ? listOf(run.deviations) : h("p", {}, "none"),
    ),
    section(
      "Provenance",
      terms([
        ["Weights", checkpoint.weights_sha256],
        ["File", checkpoint.file_sha256],
        ["Data", `${data.variant}: ${data.train} train, ${data.val} val, ${data.holdout} held out`],
        ["Data root", data.root],
        ["Fingerprint", `${data.fingerprint} (${data.fingerprint_kind})`],
        ["Source", task.source],
        ["Status", `${record.status}, ${record.progress.iterations} of ${record.progress.of}`],
        ["Made", record.created],
        ["Device", `${environment.device}, ${environment.precision}, ${environment.platform}`],
        ["Revision", environment.git_revision],
        ["Time", `${cost.wall_s.toFixed(0)} s, training ${cost.train_s.toFixed(0)} s`],
        ["Memory", `${cost.peak_memory_mib.toFixed(0)} MiB`],
        ["Backbone unchanged", { true: "yes", false: "no" }[record.frozen_hash_unchanged]],
        ["Key", record.key],
        ["Command", record.command],
      ]),
    ),
    curve.length > 1 ? section("Learning rates", curveTable(run, curve)) : null,
    others.length > 1
      ? section("Scores", terms(others.map(([name, score]) => [name, fixed(score, 2)])))
      : null,
    Object.keys(byClass).length ? section("Classes", classTable(run, byClass)) : null,
    section(
      "More",
      notes.length ? folded("Notes on the checkpoint", listOf(notes)) : null,
      folded("Settings", terms(flattened(task.settings))),
      folded("Versions", terms(Object.entries(environment.versions))),
      folded("Card of the checkpoint", terms(flattened(card))),
      coverage ? folded("What was read of the file", terms(flattened(coverage))) : null,
    ),
  ].filter((part) => part !== null);
}

// Opens the first of some runs; the others of the row are a button away
async function openRecord(indices, current = indices[0]) {
  const dialog = element("record");
  const run = runs[current];
  const both = await details(current);
  element("record-heading").textContent = run.checkpoint;
  element("record-body").querySelectorAll("a[download]").forEach((a) => URL.revokeObjectURL(a.href));
  element("record-body").replaceChildren(...recordBody(run, both));
  const siblings = element("record-siblings");
  siblings.hidden = indices.length < 2;
  siblings.replaceChildren(
    ...indices.map((index) =>
      h(
        "button",
        {
          type: "button",
          "aria-current": index === current ? "true" : null,
          onclick: async () => {
            await openRecord(indices, index);
            siblings.querySelector("[aria-current]").focus();
          },
        },
        `${protocolText(runs[index])}: ${scoreText(runs[index])}`,
      ),
    ),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
