// What is inlined, and numbers and texts for people.

const element = (id) => document.getElementById(id);
const inlined = (id) => element(id).textContent;

const { runs, columns, rows, published, printed } = JSON.parse(inlined("summary"));

async function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

let deflatedDetails = null;
const readDetails = new Map();

// `record`, the whole record of a run, and `curve`, its grid
async function details(run) {
  deflatedDetails ??= JSON.parse(inlined("details"));
  if (!readDetails.has(run)) {
    readDetails.set(run, JSON.parse(await inflated(deflatedDetails[run])));
  }
  return readDetails.get(run);
}

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => ESCAPES[c]);

// A file's name, escaped, that breaks between its words
const breakable = (text) => escaped(text).replace(/[/_.:-]/g, "$&<wbr>");

// DataTables puts what it searches into innerHTML, where it finds entities or lists values: signs
// that look alike mean nothing there
const ALIKE = { "&": "＆", "<": "‹", ">": "›" };
const searchable = (text) => String(text).replace(/[&<>]/g, (c) => ALIKE[c]);

// An element with attributes, children that are elements or plain text, and listeners (on...)
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

const MISSING = "–";

// Python's rounding, which the commands print: of two equally near decimals the even one, where
// toFixed takes the larger. Ties are odd multiples of 1 / 2^(digits + 1), which is exact.
function rounded(size, digits) {
  const text = size.toFixed(digits);
  const tie = Math.abs((size * 2 ** (digits + 1)) % 2) === 1;
  return tie && Number(text.at(-1)) % 2 ? (size - 0.1 ** (digits + 1)).toFixed(digits) : text;
}

function fixed(value, digits = 1) {
  if (value === null) return MISSING;
  const text = rounded(Math.abs(value), digits);
  return value < 0 && Number(text) ? `−${text}` : text;
}
const general = (value) => (value === null ? "" : String(Number(value.toPrecision(6))));
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function scoreText(run) {
  if (run.score === null) return run.status === "complete" ? MISSING : run.status;
  return fixed(run.score) + (run.std === null ? "" : ` ± ${fixed(run.std)}`);
}

const protocolText = (run) =>
  `${run.task} v${run.version} (${run.profile}${run.preset ? `, ${run.preset}` : ""})`;
const runText = (run) => [run.checkpoint, protocolText(run), run.apart].filter(Boolean).join(", ");

// A table of plain cells; numbers are those of the columns after the first `words`
function numbersTable(caption, head, body, words = 1) {
  const cell = (value, index) =>
    index < words
      ? h("th", { scope: "row" }, String(value))
      : h("td", { class: "number" }, String(value));
  return h(
    "table",
    { class: "numbers" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, body.map((row) => h("tr", {}, row.map(cell)))),
  );
}
