// Plots, by plotly.js, which is read when the first one is drawn.

let plotly = null;
function loadPlotly() {
  plotly ??= inflated(inlined("plotly")).then((source) => {
    document.head.append(h("script", {}, source));
    return window.Plotly;
  });
  return plotly;
}

// for people who do not see colours, symbols and dashes differ as well
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const SYMBOLS = ["circle", "square", "triangle-up", "cross", "star", "hexagon", "pentagon"];
const look = (index) => ({
  colour: COLOURS[index % COLOURS.length],
  dash: DASHES[index % DASHES.length],
  symbol: SYMBOLS[index % SYMBOLS.length],
});

const drawn = new Map();

async function plot(id, data, layout) {
  drawn.set(id, [data, layout]);
  const Plotly = await loadPlotly();
  [data, layout] = drawn.get(id); // the latest, if there was another call meanwhile
  const style = getComputedStyle(document.documentElement);
  const [text, line] = ["--text", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: text, linecolor: line, automargin: true };
  await Plotly.react(
    element(id),
    data,
    {
      font: { color: text, family: "system-ui, sans-serif", size: 13 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 50, r: 15, t: 35, b: 45 },
      legend: { x: 0, y: 0, yref: "container", yanchor: "bottom" },
      height: 420,
      ...layout,
      xaxis: { ...axis, ...layout.xaxis },
      yaxis: { ...axis, ...layout.yaxis },
    },
    { responsive: true, displaylogo: false, displayModeBar: false },
  );
}

const redraw = () => drawn.forEach(([data, layout], id) => plot(id, data, layout));

// The trade-off over alpha

// scores to choose from: columns of the leaderboard, and printed protocols without one
function tradeoffChoices(dense) {
  const wide = ["voc_linear", "voc_linear_ft", "cityscapes_linear", "ade20k_linear"];
  const printed = dense ? wide : ["imagenet_linear"];
  const known = columns.flatMap((column, index) =>
    column.dense === dense && rows.some((row) => row.alpha !== null && row.cells[index])
      ? [{ index, task: column.task, text: `${column.title}, ${column.metric}` }]
      : [],
  );
  const others = printed
    .filter((task) => known.every((one) => one.task !== task))
    .map((task) => ({ index: null, task, text: `${task} (printed)` }));
  return [...known, ...others];
}

function tradeoffPoints(x, y) {
  const measured = rows
    .filter((row) => row.alpha !== null)
    .map((row) => {
      const [a, b] = [x, y].map(({ index }) => {
        const cell = index === null ? undefined : row.cells[index];
        return cell ? runs[cell.run].score : null;
      });
      return { series: `${row.backbone}, measured`, name: row.checkpoint, alpha: row.alpha, a, b };
    });
  const printed = published.map((point) => ({
    series: `${point.backbone}, printed`,
    name: "VICRegL",
    printed: true,
    alpha: point.alpha,
    a: point.scores[x.task] ?? null,
    b: point.scores[y.task] ?? null,
  }));
  const points = [...measured, ...printed].filter(({ a, b }) => a !== null || b !== null);
  return points.sort((one, other) => one.alpha - other.alpha);
}

function grouped(points) {
  const groups = new Map();
  for (const point of points) {
    groups.set(point.series, [...(groups.get(point.series) ?? []), point]);
  }
  return [...groups.entries()];
}

function drawTradeoff() {
  const [x, y] = [false, true].map((dense) => {
    const select = element(dense ? "alpha-y" : "alpha-x");
    return tradeoffChoices(dense)[select.selectedIndex];
  });
  const points = tradeoffPoints(x, y);
  const known = [...new Set(points.map(({ series }) => series))];
  const style = ({ series, printed }, dash) => {
    const { colour, symbol: filled } = look(known.indexOf(series));
    const symbol = printed ? `${filled}-open` : filled;
    return { line: { color: colour, dash }, marker: { color: colour, symbol, size: 10 } };
  };
  const scatter = grouped(points.filter(({ a, b }) => a !== null && b !== null));
  const lines = (key) => grouped(points.filter((point) => point[key] !== null));
  const legend = (traces) => ({
    height: 370 + 22 * traces.length,
    margin: { l: 50, r: 30, t: 40, b: 65 + 22 * traces.length },
    showlegend: true,
  });
  const trace = (title, group, dash, xs, ys, words) => ({
    type: "scatter",
    mode: "lines+markers+text",
    cliponaxis: false,
    name: escaped(title),
    x: group.map(xs),
    y: group.map(ys),
    text: group.map(words),
    textposition: "top center",
    hovertext: group.map((point) => escaped(`${point.name}, alpha ${point.alpha}`)),
    ...style(group[0], dash),
  });
  const over = [
    ["b", y, "solid"],
    ["a", x, "dot"],
  ].flatMap(([key, of, dash]) =>
    lines(key).map(([title, group]) => [`${title}: ${of.task}`, group, key, dash]),
  );
  element("alpha-numbers").replaceChildren(
    numbersTable(
      "Scores by alpha",
      ["Series", "Checkpoint", "Alpha", x.text, y.text],
      points.map(({ series, name, alpha, a, b }) => [series, name, alpha, fixed(a), fixed(b)]),
      2,
    ),
  );
  return Promise.all([
    plot(
      "alpha-scatter",
      scatter.map(([title, group]) =>
        trace(title, group, "solid", (p) => p.a, (p) => p.b, (p) => `α ${p.alpha}`),
      ),
      {
        ...legend(scatter),
        title: { text: "Points are labelled by alpha", font: { size: 13 } },
        xaxis: { title: { text: escaped(x.text) } },
        yaxis: { title: { text: escaped(y.text) } },
      },
    ),
    plot(
      "alpha-lines",
      over.map(([title, group, key, dash]) =>
        trace(title, group, dash, (p) => p.alpha, (p) => p[key], () => ""),
      ),
      {
        ...legend(over),
        title: { text: "Both scores over alpha", font: { size: 13 } },
        xaxis: { title: { text: "alpha" } },
        yaxis: { title: { text: "score, %" } },
      },
    ),
  ]);
}

function startTradeoff() {
  for (const [id, dense] of [["alpha-x", false], ["alpha-y", true]]) {
    element(id).replaceChildren(
      ...tradeoffChoices(dense).map(({ text }) => h("option", {}, text)),
    );
    element(id).addEventListener("change", drawTradeoff);
  }
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    drawTradeoff();
  });
  observer.observe(element("alpha-scatter"));
}

// Learning-rate curves of the chosen runs

function show(name, note) {
  element(`${name}-note`).hidden = !note;
  element(`${name}-note`).textContent = note;
}

// records are read while the choice may change: what is not the latest call's is dropped
const latest = { curves: 0, classes: 0 };

async function drawCurves(chosen) {
  const call = ++latest.curves;
  const read = await Promise.all(chosen.map(details));
  if (call !== latest.curves) return;
  const curves = chosen.map((index, at) => ({
    run: runs[index],
    curve: read[at].curve.filter((point) => point.lr !== null),
  }));
  const found = curves.filter(({ curve }) => curve.length);
  const without = curves.filter(({ curve }) => !curve.length);
  element("curves-plot").hidden = element("curves-details").hidden = !found.length;
  const missing = without.map(({ run }) => runText(run)).join("; ");
  const left = missing ? `Without learning rates: ${missing}.` : "";
  show("curves", chosen.length ? left : "Choose records in the table of records.");
  if (!found.length) return;
  const series = found.flatMap(({ run, curve }) => {
    const options = [...new Set(curve.map((point) => point.options))];
    return options.map((option) => ({
      title: [runText(run), run.metric, option].filter(Boolean).join(", "),
      points: curve.filter((point) => point.options === option).sort((a, b) => a.lr - b.lr),
    }));
  });
  element("curves-numbers").replaceChildren(
    numbersTable(
      "Mean and standard deviation over seeds",
      ["Record", "Learning rate", "Score", "±", "Diverged"],
      series.flatMap(({ title, points }) =>
        points.map(({ lr, score, std, diverged }) => [
          title, general(lr), fixed(score, 2), fixed(std, 2), diverged,
        ]),
      ),
    ),
  );
  await plot(
    "curves-plot",
    series.map(({ title, points }, index) => {
      const { colour, dash, symbol } = look(index);
      return {
        type: "scatter",
        mode: "lines+markers",
        name: escaped(title),
        x: points.map(({ lr }) => lr),
        y: points.map(({ score }) => score),
        error_y: { type: "data", array: points.map(({ std }) => std ?? 0), color: colour },
        line: { color: colour, dash },
        marker: { color: colour, symbol, size: 9 },
      };
    }),
    {
      height: 380 + 22 * series.length,
      legend: { x: 0, y: 0, yref: "container", yanchor: "bottom" },
      margin: { l: 50, r: 15, t: 10, b: 70 + 22 * series.length },
      xaxis: { type: "log", title: { text: "learning rate" } },
      yaxis: { title: { text: "score, %" } },
      showlegend: true,
    },
  );
}

// Classes of two runs

const MOST_BARS = 60;

function comparability(a, b) {
  const words = [];
  if (a.metric !== b.metric) words.push(`other metrics (${a.metric}, ${b.metric})`);
  if (a.task !== b.task || a.version !== b.version || a.profile !== b.profile) {
    words.push("other protocols");
  }
  if (a.fingerprint !== b.fingerprint) words.push("other data");
  return words.length ? `These differ in more than the checkpoint: ${words.join(", ")}. ` : "";
}

async function drawClasses(first, second) {
  const both = first !== null && second !== null && first !== second;
  const call = ++latest.classes;
  const [a, b] = both ? await Promise.all([details(first), details(second)]) : [null, null];
  if (call !== latest.classes) return;
  const [ofA, ofB] = [a, b].map((one) => one?.record.best?.by_class ?? {});
  const common = Object.keys(ofA)
    .filter((name) => ofA[name] !== null && (ofB[name] ?? null) !== null)
    .map((name) => ({ name, a: ofA[name], b: ofB[name], difference: ofB[name] - ofA[name] }))
    .sort((one, other) => other.difference - one.difference);
  element("classes-plot").hidden = element("classes-details").hidden = !common.length;
  if (!both) return show("classes", "Choose two records in the table of records.");
  const notes = comparability(runs[first], runs[second]);
  if (!common.length) return show("classes", `${notes}No class has a score in both records.`);
  const half = MOST_BARS / 2;
  const many = common.length > MOST_BARS;
  const bars = many ? [...common.slice(0, half), ...common.slice(-half)] : common;
  const cut = many ? `The ${half} largest gains and losses of ${common.length} classes. ` : "";
  show("classes", notes + cut);
  const signed = (value) => (value > 0 ? "+" : "") + fixed(value);
  element("classes-numbers").replaceChildren(
    numbersTable(
      "Scores by class, mean over seeds",
      ["Class", "First", "Second", "Difference"],
      common.map((one) => [one.name, fixed(one.a), fixed(one.b), signed(one.difference)]),
    ),
  );
  const ends = bars.map(({ difference }) => difference).concat(0);
  const room = 0.2 * (Math.max(...ends) - Math.min(...ends)) || 1; // for the numbers
  const range = [Math.min(...ends) - room, Math.max(...ends) + room];
  const reversed = [...bars].reverse(); // plotly begins at the bottom
  await plot(
    "classes-plot",
    [
      {
        type: "bar",
        orientation: "h",
        x: reversed.map(({ difference }) => difference),
        y: reversed.map((_, at) => at),
        text: reversed.map(({ difference }) => signed(difference)),
        textposition: "outside",
        cliponaxis: false,
        hovertext: reversed.map((one) =>
          escaped(`${one.name}: ${fixed(one.a)} and ${fixed(one.b)}`),
        ),
        hoverinfo: "text",
        marker: { color: reversed.map(({ difference }) => COLOURS[difference < 0 ? 1 : 0]) },
      },
    ],
    {
      height: 110 + 20 * bars.length,
      margin: { l: 50, r: 45, t: 10, b: 45 },
      xaxis: { range, title: { text: "second minus first, points" } },
      yaxis: {
        tickvals: reversed.map((_, at) => at),
        ticktext: reversed.map(({ name }) => escaped(name)),
        zeroline: false,
        showgrid: false,
      },
    },
  );
}
