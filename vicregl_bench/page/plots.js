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

// A legend's text as lines that fit below a plot
function lines(id, text) {
  const most = Math.max(24, Math.floor((element(id).clientWidth - 85) / 7)); // px of a letter
  const parts = text.split(" ").flatMap((word) => word.match(new RegExp(`.{1,${most}}`, "gsu")) ?? []);
  return parts.reduce((made, part) => {
    const longer = made.length ? `${made.at(-1)} ${part}` : part;
    return made.length && longer.length <= most ? [...made.slice(0, -1), longer] : [...made, part];
  }, []);
}
const legendName = (id, text) => lines(id, text).map(escaped).join("<br>");
const legendHeight = (id, texts) =>
  texts.reduce((sum, text) => sum + 4 + 18 * lines(id, text).length, 0);

async function plot(id, data, layout) {
  drawn.set(id, [data, layout]);
  const Plotly = await loadPlotly();
  [data, layout] = drawn.get(id); // the latest, if there was another call meanwhile
  const style = getComputedStyle(document.documentElement);
  const [text, line] = ["--text", "--line"].map((name) => style.getPropertyValue(name).trim());
  const base = { gridcolor: line, zerolinecolor: text, linecolor: line, automargin: true };
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
      ...Object.fromEntries(
        ["xaxis", "yaxis", "yaxis2"]
          .filter((name) => layout[name])
          .map((name) => [name, { ...base, ...layout[name] }]),
      ),
    },
    { responsive: true, displaylogo: false, displayModeBar: false },
  );
}

const redraw = () => drawn.forEach(([data, layout], id) => plot(id, data, layout));

// The trade-off over alpha

// scores to choose from: columns of the leaderboard, and printed protocols without one
const MARK = "†"; // not comparable with the printed numbers
const MOST_LABELS = 12; // of one plot; more are told by pointing alone

function tradeoffChoices(dense) {
  const paperDense = ["voc_linear", "voc_linear_ft", "cityscapes_linear", "ade20k_linear"];
  const paper = dense ? paperDense : ["imagenet_linear"];
  const known = columns.flatMap((column, index) =>
    column.dense === dense && rows.some((row) => row.alpha !== null && row.cells[index])
      ? [{ index, task: column.task, metric: column.metric, text: `${column.title}, ${column.metric}` }]
      : [],
  );
  const others = paper
    .filter((task) => known.every((one) => one.task !== task))
    .map((task) => ({ index: null, task, metric: printed[task], text: `${task} (printed)` }));
  // those of the paper first
  const place = ({ task }) => (paper.includes(task) ? paper.indexOf(task) : paper.length);
  known.sort((one, other) => place(one) - place(other));
  return [...known, ...others].map((one) => ({ ...one, axis: `${one.task}: ${one.metric} (%)` }));
}

function tradeoffPoints(x, y) {
  const measured = rows
    .filter((row) => row.alpha !== null)
    .map((row) => {
      const [a, b] = [x, y].map(({ index }) => {
        const cell = index === null ? undefined : row.cells[index];
        return cell ? runs[cell.run] : null;
      });
      return {
        backbone: row.backbone,
        printed: false,
        name: [row.checkpoint, row.further].filter(Boolean).join(", "),
        alpha: row.alpha,
        a: a?.score ?? null,
        b: b?.score ?? null,
        std: { a: a?.std ?? null, b: b?.std ?? null },
        unlike: { a: a?.unlike ?? [], b: b?.unlike ?? [] },
      };
    });
  // a printed score stands on an axis of its own metric alone
  const score = (point, { task, metric }) =>
    printed[task] === metric ? (point.scores[task] ?? null) : null;
  const paper = published.map((point) => ({
    backbone: point.backbone,
    printed: true,
    name: "VICRegL",
    alpha: point.alpha,
    a: score(point, x),
    b: score(point, y),
    std: { a: null, b: null },
    unlike: { a: [], b: [] },
  }));
  const points = [...measured, ...paper]
    .filter(({ a, b }) => a !== null || b !== null)
    .sort((one, other) => one.alpha - other.alpha);
  // a mark in the legend where one of a series is marked
  const marked = new Set(
    points.filter((one) => one.unlike.a.length + one.unlike.b.length).map((one) => one.backbone),
  );
  return points.map((point) => ({
    ...point,
    series: point.printed
      ? `printed in the paper (full protocol): ${point.backbone}`
      : `${point.backbone}, measured${marked.has(point.backbone) ? MARK : ""}`,
  }));
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
  const style = ({ series, printed }) => {
    const { colour, symbol: filled } = look(known.indexOf(series));
    const symbol = printed ? `${filled}-open` : filled;
    const line = { color: colour, dash: printed ? "dot" : "solid" };
    return { line, marker: { color: colour, symbol, size: 10 } };
  };
  // why a point is not comparable with the printed ones, by one score (a, b) or both
  const reasons = ({ unlike }, keys) => [...new Set(keys.flatMap((key) => unlike[key]))];
  const mark = (point, ...keys) => (reasons(point, keys).length ? MARK : "");
  const spread = (point, key) =>
    fixed(point[key]) + (point.std[key] === null ? "" : ` ± ${fixed(point.std[key])}`) + mark(point, key);
  const axes = { a: x.axis, b: y.axis };
  const hover = (point, keys) =>
    [
      `${point.name}, alpha ${point.alpha}${point.printed ? ", printed" : ""}`,
      ...keys.map((key) => `${axes[key]} ${spread(point, key)}`),
      ...reasons(point, keys).flatMap((reason) => `${MARK} ${reason}`.split("; ")),
    ].map(escaped).join("<br>");
  const labelled = points.filter((point) => !point.printed).length <= MOST_LABELS;
  const trace = (id, [title, group], keys, xs, ys, words, places) => ({
    type: "scatter",
    mode: group[0].printed || !labelled ? "lines+markers" : "lines+markers+text",
    cliponaxis: false,
    name: legendName(id, title),
    legendgroup: title,
    x: group.map(xs),
    y: group.map(ys),
    text: group.map(words),
    textposition: group.map((_, at) => places[at % places.length]),
    hovertext: group.map((point) => hover(point, keys)),
    hoverinfo: "text",
    ...style(group[0]),
  });
  const scatter = grouped(points.filter(({ a, b }) => a !== null && b !== null));
  const over = ["b", "a"].flatMap((key) =>
    grouped(points.filter((point) => point[key] !== null)).map((group) => ({ key, group })),
  );
  const legend = (id, titles, height) => {
    const below = legendHeight(id, titles);
    return {
      height: height + below,
      margin: { l: 50, r: 30, t: 40, b: 65 + below },
      showlegend: true,
    };
  };
  element("alpha-numbers").replaceChildren(
    numbersTable(
      "Scores by alpha",
      ["Series", "Checkpoint", "Alpha", x.axis, y.axis],
      points.map((point) => [
        point.series,
        point.name,
        point.alpha,
        spread(point, "a"),
        spread(point, "b"),
      ]),
      2,
    ),
  );
  element("alpha-note").hidden = points.every((point) => !mark(point, "a", "b"));
  const twoLines = ({ task, metric }) => `${escaped(task)}<br>${escaped(metric)} (%)`;
  const named = [...new Set(over.map(({ group: [title] }) => title))];
  return Promise.all([
    plot(
      "alpha-scatter",
      scatter.map((group) =>
        trace(
          "alpha-scatter", group, ["a", "b"],
          (p) => p.a, (p) => p.b, (p) => `α ${p.alpha}${mark(p, "a", "b")}`,
          ["top center", "bottom center"],
        ),
      ),
      {
        ...legend("alpha-scatter", scatter.map(([title]) => title), 370),
        title: { text: "Measured points are labelled by alpha", font: { size: 13 } },
        xaxis: { title: { text: escaped(x.axis) } },
        yaxis: { title: { text: escaped(y.axis) } },
      },
    ),
    plot(
      "alpha-lines",
      over.map(({ key, group }, at) => ({
        ...trace(
          "alpha-lines", group, [key],
          (p) => p.alpha, (p) => p[key], (p) => mark(p, key), ["top center"],
        ),
        yaxis: key === "b" ? "y" : "y2",
        showlegend: over.findIndex((one) => one.group[0] === group[0]) === at,
      })),
      {
        ...legend("alpha-lines", named, 470),
        title: { text: "Both scores over alpha", font: { size: 13 } },
        xaxis: { title: { text: "alpha" }, anchor: "y2" },
        yaxis: { title: { text: twoLines(y) }, domain: [0.55, 1] },
        yaxis2: { title: { text: twoLines(x) }, domain: [0, 0.45] },
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

const unique = (list, get) => [...new Set(list.map(get))];

// what keeps curves on one axis from being compared
function mixed(list) {
  const words = [
    ["metrics", unique(list, (run) => run.metric)],
    ["protocols", unique(list, protocolText)],
    ["data", unique(list, (run) => `${run.data} ${run.fingerprint}`)],
  ].filter(([, values]) => values.length > 1);
  const told = words.map(([word, values]) => `${word} (${values.join("; ")})`).join(", ");
  return told && `Not to be compared on one axis: these records are of different ${told}.`;
}

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
  const drawnRuns = found.map(({ run }) => run);
  const notes = [left, mixed(drawnRuns)].filter(Boolean).join(" ");
  show("curves", chosen.length ? notes : "Choose records in the table of records.");
  if (!found.length) return;
  const series = found.flatMap(({ run, curve }) => {
    const options = [...new Set(curve.map((point) => point.options))];
    return options.map((option) => ({
      title: `${run.metric}: ${[runText(run), option].filter(Boolean).join(", ")}`,
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
  const below = legendHeight("curves-plot", series.map(({ title }) => title));
  const metrics = unique(drawnRuns, (run) => run.metric);
  const rates = unique(series.flatMap(({ points }) => points), ({ lr }) => lr);
  const ticks = { tickvals: rates, ticktext: rates.map(general) };
  await plot(
    "curves-plot",
    series.map(({ title, points }, index) => {
      const { colour, dash, symbol } = look(index);
      return {
        type: "scatter",
        mode: "lines+markers",
        name: legendName("curves-plot", title),
        x: points.map(({ lr }) => lr),
        y: points.map(({ score }) => score),
        error_y: { type: "data", array: points.map(({ std }) => std ?? 0), color: colour },
        line: { color: colour, dash },
        marker: { color: colour, symbol, size: 9 },
      };
    }),
    {
      height: 380 + below,
      legend: { x: 0, y: 0, yref: "container", yanchor: "bottom" },
      margin: { l: 50, r: 15, t: 10, b: 70 + below },
      xaxis: {
        type: "log",
        title: { text: "learning rate" },
        ...(rates.length <= MOST_LABELS ? ticks : {}),
      },
      yaxis: { title: { text: metrics.length === 1 ? `${metrics[0]} (%)` : "score (%)" } },
      showlegend: true,
    },
  );
}

// Classes of two runs

const MOST_BARS = 60;

function comparability(a, b) {
  const pairs = [
    ["metrics", (run) => run.metric],
    ["protocols", (run) => `${run.task} v${run.version}`],
    ["profiles", (run) => run.profile],
    ["presets", (run) => run.preset || "none"],
    ["chosen on", (run) => run.select],
    ["precisions", (run) => run.precision],
    ["data", (run) => `${run.data} ${run.fingerprint}`],
  ].flatMap(([word, get]) => {
    const [one, other] = [get(a), get(b)];
    return one === other ? [] : [`${word} (${one}; ${other})`];
  });
  const alone = (one, other) => one.deviations.filter((text) => !other.deviations.includes(text));
  const own = [["first", alone(a, b)], ["second", alone(b, a)]].flatMap(([which, texts]) =>
    texts.length ? [`deviations of the ${which} alone (${texts.join("; ")})`] : [],
  );
  const words = [...pairs, ...own];
  const same = a.weights === b.weights;
  if (!words.length) return same ? "These are two runs of the same weights and settings. " : "";
  const begin = same
    ? "These are of the same weights and differ in their settings"
    : "These differ in more than the checkpoint";
  return `${begin}: ${words.join("; ")}. `;
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
  for (const part of ["plot", "details", "how"]) element(`classes-${part}`).hidden = !common.length;
  if (!both) return show("classes", "Choose two records in the table of records.");
  const notes = comparability(runs[first], runs[second]);
  if (!common.length) return show("classes", `${notes}No class has a score in both records.`);
  const half = MOST_BARS / 2;
  const many = common.length > MOST_BARS;
  const bars = many ? [...common.slice(0, half), ...common.slice(-half)] : common;
  const cut = many ? `The ${half} largest gains and losses of ${common.length} classes. ` : "";
  show("classes", notes + cut);
  const files = [first, second].map((index) => runs[index].file).join(" ");
  const [one, other] = [first, second].map((at) => `${runs[at].metric} ${scoreText(runs[at])}`);
  element("classes-scores").textContent = `First: ${one}. Second: ${other}.`;
  element("classes-command").textContent = `vicregl-bench compare ${files}`;
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
