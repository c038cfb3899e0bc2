// What is done on the page.

const dark = matchMedia("(prefers-color-scheme: dark)");
const applyDark = () => document.documentElement.classList.toggle("dark", dark.matches);
applyDark();
dark.addEventListener("change", () => {
  applyDark();
  redraw();
});

const chosen = new Set();
const DataTable = await loadDataTables();
const board = leaderboard(DataTable);
// the leaderboard is painted before more is made; a hidden tab paints nothing
await new Promise((done) => {
  requestAnimationFrame(() => setTimeout(done));
  setTimeout(done, 100);
});
const records = recordsTable(DataTable, chosen);

// a heading is sorted by Enter; Space does the same, as on every button
document.addEventListener("keydown", (event) => {
  if (event.key === " " && event.target.matches(".dt-column-order")) {
    event.preventDefault();
    event.target.click();
  }
});

for (const { container, runsOf } of [
  { container: "leaderboard-table", runsOf: (row) => Object.values(row.cells).map(({ run }) => run) },
  { container: "records-table", runsOf: (index) => [index] },
]) {
  const table = container === "records-table" ? records : board;
  element(container).querySelector("tbody").addEventListener("click", (event) => {
    if (event.target.closest(".choose")) return;
    const button = event.target.closest("button");
    const row = event.target.closest("tr");
    if (button?.dataset.run !== undefined) openRecord([Number(button.dataset.run)]);
    else if (row && table.row(row).any()) openRecord(runsOf(table.row(row).data()));
  });
}

element("close").addEventListener("click", () => element("record").close());
element("record").addEventListener("click", (event) => {
  if (event.target === event.currentTarget) event.currentTarget.close();
});

for (const id of ["only-task", "only-profile"]) {
  element(id).addEventListener("change", () =>
    showColumns(board, element("only-task").value, element("only-profile").value),
  );
}

const pick = (id) => (element(id).value === "" ? null : Number(element(id).value));
const compare = () => drawClasses(pick("first"), pick("second"));
for (const id of ["first", "second"]) element(id).addEventListener("change", compare);

function updateChosen() {
  const indices = [...chosen];
  const focused = element("chosen").contains(document.activeElement);
  element("chosen").hidden = !indices.length;
  element("chosen-count").textContent = `${indices.length} chosen`;
  element("chosen-list").replaceChildren(
    ...indices.map((index) => {
      const label = `do not choose ${runText(runs[index])}`;
      const remove = () => choose(index, false);
      const cross = h("button", { type: "button", "aria-label": label, onclick: remove }, "×");
      return h("li", {}, h("span", {}, runText(runs[index])), cross);
    }),
  );
  // the button that was pressed is gone
  if (focused) element(indices.length ? "clear" : "records-heading").focus({ preventScroll: true });
  ["first", "second"].forEach((id, position) => {
    const before = pick(id);
    const options = indices.map((index) => h("option", { value: index }, runText(runs[index])));
    element(id).replaceChildren(...options);
    const kept = indices.includes(before) ? before : null;
    const other = position === 1 ? pick("first") : null;
    const next = kept !== null && kept !== other ? kept : indices.find((index) => index !== other);
    element(id).value = next ?? "";
  });
  element("classes-records").hidden = indices.length < 2;
  drawCurves(indices);
  compare();
}

function choose(index, yes) {
  if (yes) chosen.add(index);
  else chosen.delete(index);
  const box = records.row(index).node()?.querySelector("[data-choose]");
  if (box) box.checked = yes;
  updateChosen();
}

element("records-table").addEventListener("change", (event) => {
  const index = event.target.dataset.choose;
  if (index !== undefined) choose(Number(index), event.target.checked);
});
element("clear").addEventListener("click", () => [...chosen].forEach((one) => choose(one, false)));

startTradeoff();
// the tables above it were not there when the browser went to it
element(location.hash.slice(1))?.scrollIntoView();
document.documentElement.dataset.ready = "yes";
