// The leaderboard and the table of runs, by DataTables.

const NO_DATA = { emptyTable: "no records", zeroRecords: "no record fits the filters" };
const collator = new Intl.Collator("en", { numeric: true });
// missing values (null or "") are last in both directions
const last = (compare) => (a, b) => {
  const [noA, noB] = [a === null || a === "", b === null || b === ""];
  return noA || noB ? noA - noB : compare(a, b);
};

async function loadDataTables() {
  const source = new Blob([await inflated(inlined("datatables"))], { type: "text/javascript" });
  const url = URL.createObjectURL(source);
  const DataTable = (await import(url)).default;
  URL.revokeObjectURL(url);
  const order = DataTable.ext.type.order;
  order["value-asc"] = last((a, b) => a - b);
  order["value-desc"] = last((a, b) => b - a);
  order["words-asc"] = last((a, b) => collator.compare(a, b));
  order["words-desc"] = last((a, b) => collator.compare(b, a));
  return DataTable;
}

const valueColumn = (title, get, show) => ({
  title,
  type: "value",
  className: "number",
  orderSequence: ["desc", "asc"],
  data: null,
  render: (row, kind) => {
    const value = get(row);
    if (kind === "sort" || kind === "type") return value;
    return value === null ? MISSING : escaped(show(value, row));
  },
});

// `content` is what its filter is made of, null for none
const wordsColumn = (title, content, get, options = {}) => ({
  ...(content ? filter(title, content) : {}),
  title,
  type: "words",
  data: null,
  render: (row, kind) => {
    const value = get(row) ?? "";
    if (kind === "sort" || kind === "type") return value;
    return kind === "display" ? escaped(value) : searchable(value);
  },
  ...options,
});

const MEAN_RANK = 4;
const FIXED_COLUMNS = 6; // before those of scores
const filter = (title, content) => ({
  columnControl: [{ extend: "dropdown", text: `Filter by ${title}`, content: [content] }],
});

function headings(table, list) {
  const line = (text) => h("span", { class: "heading-line" }, text);
  const cells = list.map(({ title, lines, hint }) =>
    h("th", { scope: "col", title: hint ?? null }, lines ? lines.map(line) : title),
  );
  table.append(h("thead", {}, h("tr", {}, cells)), h("tbody"));
  return list.map(({ title, lines, hint, ...rest }) => rest);
}

const OPTIONS = {
  autoWidth: false,
  deferRender: true,
  pageLength: 50,
  lengthMenu: [25, 50, 100, { label: "all", value: -1 }],
  language: { ...NO_DATA, search: "Filter", lengthMenu: "_MENU_ rows" },
};

// A table in its section; of two on a page, each has controls that say of which they are
function paged(DataTable, name, options) {
  const table = new DataTable(`#${name}-table`, { ...OPTIONS, ...options });
  const label = (selector, text) =>
    table.table().container().querySelector(selector).setAttribute("aria-label", text);
  label("nav", `Pages of the ${name}`);
  label(".dt-search input", `Filter the ${name}`);
  label(".dt-length select", `Rows of the ${name} on a page`);
  return table;
}

function markText(run) {
  const words = [];
  if (run.deviations.length) words.push(["†", `deviates: ${run.deviations.join("; ")}`]);
  if (run.marks.length) words.push(["‡", run.marks.join("; ")]);
  return words;
}

function scoreButton(index) {
  const run = runs[index];
  const marks = markText(run)
    .map(([sign, words]) => `<abbr title="${escaped(words)}">${sign}</abbr>`)
    .join("");
  const label = escaped(`open the record of ${runText(run)}: ${scoreText(run)}`);
  return (
    `<button type="button" class="open" data-run="${index}" aria-label="${label}">` +
    `${escaped(scoreText(run))}</button>${marks}`
  );
}

const cellColumn = (column, index) => ({
  lines: [
    column.title,
    column.data,
    [column.metric, column.preset && `preset ${column.preset}`].filter(Boolean).join(", "),
  ],
  hint: column.description,
  type: "value",
  className: "number",
  orderSequence: ["desc", "asc"],
  data: null,
  render: (row, kind) => {
    const cell = row.cells[index];
    if (kind === "sort" || kind === "type") return cell ? runs[cell.run].score : null;
    if (!cell) return `<span class="missing">${MISSING}</span>`;
    const score = kind === "display" ? scoreButton(cell.run) : escaped(scoreText(runs[cell.run]));
    return kind === "display" && cell.rank === 1 ? `<b>${score}</b>` : score;
  },
});

// columns of scores that are shown, and a row's cells in them
let shown = columns.map(() => true);
const shownCells = (row) => Object.keys(row.cells).filter((index) => shown[index]);

// over the columns shown that the row is ranked in
function meanRank(row) {
  const ranks = shownCells(row).map((index) => row.cells[index].rank);
  const ranked = ranks.filter((rank) => rank !== null);
  return ranked.length ? ranked.reduce((sum, rank) => sum + rank, 0) / ranked.length : null;
}

function leaderboard(DataTable) {
  const list = [
    wordsColumn("Checkpoint", "search", (row) => row.checkpoint, {
      className: "first",
      render: (row, kind) => {
        if (kind === "sort" || kind === "type") return row.checkpoint;
        if (kind !== "display") return searchable(row.checkpoint);
        const known = Object.values(row.cells).map((cell) => cell.run).join(",");
        const further = row.further ? `<small>further run: ${escaped(row.further)}</small>` : "";
        return (
          `<button type="button" class="open" data-runs="${known}">${breakable(row.checkpoint)}` +
          `</button>${further}`
        );
      },
    }),
    wordsColumn("Method", "searchList", (row) => row.method, { className: "minor" }),
    wordsColumn("Backbone", "searchList", (row) => row.backbone),
    {
      ...valueColumn("Alpha", (row) => row.alpha, general),
      className: "number minor",
      visible: rows.some((row) => row.alpha !== null),
    },
    {
      ...valueColumn("Mean rank", meanRank, (value) => fixed(value, 2)),
      orderSequence: ["asc", "desc"],
    },
    {
      ...valueColumn("Columns", (row) => shownCells(row).length, String),
      className: "number minor",
    },
    ...columns.map(cellColumn),
  ];
  const plain = headings(element("leaderboard-table"), list);
  return paged(DataTable, "leaderboard", {
    data: rows,
    columns: plain,
    order: [[MEAN_RANK, "asc"]],
  });
}

// Shows the columns of a protocol and a profile ("" is any), and the rows with a score in them
function showColumns(table, task, profile) {
  shown = columns.map(
    (column) => (!task || column.task === task) && (!profile || column.profile === profile),
  );
  shown.forEach((visible, index) => table.column(FIXED_COLUMNS + index).visible(visible, false));
  const hasScore = (text, row) => shownCells(row).length > 0;
  table.search.fixed("columns", task || profile ? hasScore : null);
  table.rows().invalidate(); // mean rank and number of columns
  table.columns.adjust().draw();
}

function recordsTable(DataTable, chosen) {
  const list = [
    {
      title: "Choose",
      orderable: false,
      searchable: false,
      data: null,
      className: "choose",
      render: (index, kind) => {
        if (kind !== "display") return "";
        const label = escaped(`choose ${runText(runs[index])}`);
        const checked = chosen.has(index) ? " checked" : "";
        return `<input type="checkbox" data-choose="${index}" aria-label="${label}"${checked}>`;
      },
    },
    wordsColumn("Checkpoint", "search", (index) => runs[index].checkpoint, {
      className: "first",
      render: (index, kind) => {
        const run = runs[index];
        if (kind === "sort" || kind === "type") return run.checkpoint;
        if (kind !== "display") return searchable(run.checkpoint);
        return (
          `<button type="button" class="open" data-run="${index}">` +
          `${breakable(run.checkpoint)}</button>`
        );
      },
    }),
    wordsColumn("Task", "searchList", (index) => runs[index].task),
    wordsColumn("Version", "searchList", (index) => `v${runs[index].version}`, {
      className: "minor",
    }),
    wordsColumn("Profile", "searchList", (index) => runs[index].profile),
    wordsColumn("Metric", "searchList", (index) => runs[index].metric, { className: "minor" }),
    {
      ...valueColumn("Score", (index) => runs[index].score, (_, index) => scoreText(runs[index])),
      render: (index, kind) => {
        const run = runs[index];
        if (kind === "sort" || kind === "type") return run.score;
        if (kind !== "display") return escaped(scoreText(run));
        const signs = markText(run).map(([sign]) => sign).join("");
        return escaped(scoreText(run)) + signs;
      },
    },
    valueColumn(
      "95 % interval",
      (index) => runs[index].low,
      (_, index) => `${fixed(runs[index].low)} to ${fixed(runs[index].high)}`,
    ),
    wordsColumn("Method", "searchList", (index) => runs[index].method),
    wordsColumn("Backbone", "searchList", (index) => runs[index].backbone),
    wordsColumn("Data", "searchList", (index) => runs[index].data),
    {
      ...valueColumn("Chosen point", (index) => runs[index].lr, general),
      render: (index, kind) => {
        const { lr, options } = runs[index];
        if (kind === "sort" || kind === "type") return lr;
        return escaped([lr === null ? "" : general(lr), options].filter(Boolean).join(", "));
      },
    },
    valueColumn("Seeds", (index) => runs[index].seeds, String),
    wordsColumn("Deviations", "search", (index) => runs[index].deviations.join("; "), {
      className: "long",
    }),
    wordsColumn("Device", "searchList", (index) => runs[index].device, { className: "long" }),
    wordsColumn("Date", null, (index) => runs[index].created.slice(0, 10), {
      orderSequence: ["desc", "asc"],
      render: (index, kind) => {
        const made = runs[index].created;
        return escaped(kind === "display" ? made.slice(0, 10) : made);
      },
    }),
  ];
  return paged(DataTable, "records", {
    columns: headings(element("records-table"), list),
    data: runs.map((_, index) => index),
    order: [[list.length - 1, "desc"]],
  });
}
