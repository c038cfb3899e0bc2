"""Figure 2 of VICRegL: classification against segmentation over the weight alpha."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from vicregl_bench.errors import ConfigError
from vicregl_bench.records.collection import Entry
from vicregl_bench.records.metrics import metric_title
from vicregl_bench.records.store import write_file
from vicregl_bench.tables.alpha_points import TABLES, published_points
from vicregl_bench.tables.columns import Column, column, column_titles
from vicregl_bench.tables.facts import identity, not_comparable, weights_facts
from vicregl_bench.tables.layout import layout
from vicregl_bench.tables.named import Naming
from vicregl_bench.tables.pictures import plain_text
from vicregl_bench.tables.standing import ranked

FORMATS = (".png", ".svg", ".pdf")
_CAPTION = (
    "Published: tables 1 and 2 (VICReg is α = 1); the values of the paper's own figure 2\n"
    "are not in its extracted text."
)
_UNLIKE = "* not comparable with the printed points"
_MARKER = 5.0  # pixels from a point's middle that its marker takes
_NEAR = 20.0  # points: from here on a line leads from a label to its point
_OFFSETS = tuple(  # points: of a label's middle from its point, the nearest first
    (far * 1.7 * math.cos(angle * math.pi / 6), far * math.sin(angle * math.pi / 6))
    for far in (11, 16, 24, 34, 46, 60)
    for angle in (1, 11, 5, 7, 2, 10, 4, 8, 3, 9, 0, 6)
)


@dataclass(frozen=True)
class Point:
    """Both scores of one pretraining, in percent, with their spread over seeds (0: not known)."""

    alpha: float
    x: float
    y: float
    x_std: float = 0.0
    y_std: float = 0.0


@dataclass(frozen=True)
class Line:
    """Points of one backbone, in order of alpha.

    Attributes:
        title: for the legend.
        published: whether the paper prints them.
        comparable: whether all were measured by the paper's protocol without deviations, and no
            record contradicts them.
    """

    title: str
    published: bool
    points: tuple[Point, ...]
    comparable: bool = True


@dataclass(frozen=True)
class Tradeoff:
    """What figure 2 shows.

    Attributes:
        x: task of the horizontal axis; y: of the vertical one.
        titles: what stands at both axes.
        remarks: what is not shown, and why.
    """

    x: str
    y: str
    titles: tuple[str, str]
    lines: tuple[Line, ...]
    remarks: tuple[str, ...] = ()


def tradeoff(
    entries: Sequence[Entry] = (),
    *,
    naming: Naming | None = None,
    x: str = "imagenet_linear",
    y: str = "voc_linear",
) -> Tradeoff:
    """Published and measured scores over alpha, one line a backbone.

    Published are the rows of tables 1 and 2 that have both scores: VICRegL's, but for the one
    pretrained on ImageNet-22k, and VICReg's as alpha 1 (section 4.2). The ablations do not print
    alpha, and what figure 2 itself shows is not in the extracted text but for differences (section
    4.2); neither is drawn. Scores of other tasks than the printed ones have no published line, as
    they belong on another axis.

    Of each measured weights the record counts that stands first by `standing.ORDER`. What would not
    share a column of the leaderboard (other versions, profiles, presets, selections or pictures) is
    a line of its own.

    Raises:
        ConfigError: nothing to draw.
    """
    if x == y:
        raise ConfigError(f"figure 2 sets two tasks against each other; both are {x}")
    lines = _published_lines(x, y)
    measured, remarks, metrics = _measured_lines(entries, naming, x, y)
    lines += measured
    if not lines:
        why = f": {' '.join(remarks)}" if remarks else ""
        raise ConfigError(
            f"figure 2 has nothing to draw: no weights of known alpha with records of both {x} and "
            f"{y}{why}; a zoo's `alpha` says whose alpha is what, `vicregl-bench run` makes records"
        )
    titles = tuple(f"{task}: {metrics[task]} (%)" for task in (x, y))
    return Tradeoff(x, y, (titles[0], titles[1]), tuple(lines), tuple(remarks))


def _published_lines(x: str, y: str) -> list[Line]:
    lines: dict[str, list[Point]] = {}
    for printed in published_points():
        if {x, y} <= printed.scores.keys():
            title = f"{printed.backbone}, published (table {printed.table})"
            point = Point(printed.alpha, printed.scores[x], printed.scores[y])
            lines.setdefault(title, []).append(point)
    return [Line(title, True, _ordered(points)) for title, points in lines.items()]


def _measured_lines(
    entries: Sequence[Entry], naming: Naming | None, x: str, y: str
) -> tuple[list[Line], list[str], dict[str, str]]:
    """Lines, remarks, and the title of each task's score."""
    fitting = [one for one in entries if one.record.task.name in (x, y)]
    facts = weights_facts([entry.record for entry in fitting], naming)
    metrics = {
        task: next(
            (metric_title(e.record.task.metric) for e in fitting if e.record.task.name == task),
            _printed_metric(task),
        )
        for task in (x, y)
    }
    groups: dict[tuple[str, Column, Column], list[tuple[Point, bool]]] = {}
    unknown, single, disputed = [], [], []
    for key, about in facts.items():
        own = [entry for entry in fitting if identity(entry.record) == key]
        best = {task: _best(own, task) for task in (x, y)}
        first, second = (None if one is None else one.record for one in best.values())
        if about.alpha is None:
            unknown.append(about.name)
        elif first is None or second is None:
            single.append(about.name)
        elif first.best is not None and second.best is not None:
            point = Point(
                about.alpha, first.best.score, second.best.score, first.best.std, second.best.std
            )
            group = (about.backbone, column(first), column(second))
            doubted = [task for task, entry in best.items() if entry is not None and entry.disputed]
            disputed += [f"{about.name}, {task}" for task in doubted]
            plain = not (not_comparable(first) or not_comparable(second) or doubted)
            groups.setdefault(group, []).append((point, plain))
    backbones = [group[0] for group in groups]
    conditions = column_titles([of_task for group in groups for of_task in group[1:]])
    lines = []
    for group, found in groups.items():
        comparable = all(plain for _, plain in found)
        title = f"{group[0]}, measured{'' if comparable else '*'}"
        if backbones.count(group[0]) > 1:
            title += f" ({conditions[group[1]]}; {conditions[group[2]]})"
        points = _ordered([point for point, _ in found])
        lines.append(Line(title, False, points, comparable))
    remarks = []
    if unknown:
        remarks.append(f"Not drawn, of unknown alpha: {', '.join(unknown)}.")
    if single:
        remarks.append(f"Not drawn, without a finished record of both tasks: {', '.join(single)}.")
    if disputed:
        remarks.append(f"Drawn, though other records contradict them: {'; '.join(disputed)}.")
    return lines, remarks, metrics


def _printed_metric(task: str) -> str:
    printed = (one for number in TABLES for one in layout(number).columns)
    return next((metric_title(one.metric) for one in printed if one.protocol == task), "score")


def _best(entries: Iterable[Entry], task: str) -> Entry | None:
    """The record that stands for some weights in a task: finished, with a score."""
    found = [e for e in entries if e.record.task.name == task and e.record.best is not None]
    return ranked(found)[0] if found else None


def _ordered(points: Iterable[Point]) -> tuple[Point, ...]:
    return tuple(sorted(points, key=lambda point: (point.alpha, point.x)))


def draw_tradeoff(found: Tradeoff, path: Path) -> None:
    """Draw it into a file, see `tradeoff_figure`.

    Args:
        found: what is drawn.
        path: where it goes; its ending is one of `FORMATS`.

    Raises:
        ConfigError: another ending.
        RecordError: the file cannot be written.
    """
    form = path.suffix.lower()
    if form not in FORMATS:
        raise ConfigError(f"figure 2 is drawn as {', '.join(FORMATS)}, not {path.name!r}")
    figure = tradeoff_figure(found)
    buffer = io.BytesIO()
    # without the date, and with names that are not drawn at random, the same data is the same file
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(form, {})
    with mpl.rc_context({"svg.hashsalt": "vicregl-bench"}):
        figure.savefig(buffer, format=form[1:], bbox_inches="tight", metadata=metadata)
    write_file(path, buffer.getvalue())


def tradeoff_figure(found: Tradeoff) -> Figure:
    """Published lines dashed, measured ones whole with their spread.

    Alpha stands at every measured point and at both ends of a published line, where there is room.
    """
    figure = Figure(figsize=(6.2, 4.6), dpi=120)
    axes = figure.subplots()
    colours: Mapping[str, str] = {
        backbone: f"C{k}"
        for k, backbone in enumerate(
            dict.fromkeys(line.title.split(", ")[0] for line in found.lines)
        )
    }
    for line in found.lines:
        _draw_line(axes, line, colours[line.title.split(", ")[0]])
    doubtful = not all(line.comparable for line in found.lines)
    both = {line.published for line in found.lines} == {True, False}
    axes.set_xlabel(plain_text(found.titles[0]))
    axes.set_ylabel(plain_text(found.titles[1]))
    axes.set_title("Local against global criterion over α (VICRegL, figure 2)", fontsize=10)
    axes.margins(0.08)
    axes.grid(alpha=0.3)
    _label_points(figure, axes, found.lines)
    title = _UNLIKE if doubtful and both else None
    axes.legend(fontsize=7, title=title, title_fontsize=7, alignment="left")
    figure.text(0.02, -0.02, plain_text(_caption(found)), fontsize=7, va="top")
    return figure


def _label_points(figure: Figure, axes: Axes, lines: Sequence[Line]) -> None:
    """Write alpha beside points, each label where it is clear of all points and other labels."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    axes.autoscale_view()
    every = [(point.x, point.y) for line in lines for point in line.points]
    taken = [
        Bbox.from_bounds(x - _MARKER, y - _MARKER, 2 * _MARKER, 2 * _MARKER)
        for x, y in axes.transData.transform(every)
    ]
    for line in sorted(lines, key=lambda line: line.published):  # measured ones choose first
        ends = (line.points[0], line.points[-1])
        for point in dict.fromkeys(ends if line.published else line.points):
            label = axes.annotate(
                f"α={point.alpha:g}",
                (point.x, point.y),
                xytext=_OFFSETS[0],
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=7,
            )
            for offset in _OFFSETS:
                label.xyann = offset
                box = label.get_window_extent(renderer).padded(1)
                inside = axes.bbox.count_contains(box.corners()) == 4
                if inside and not any(box.overlaps(one) for one in taken):
                    taken.append(box)
                    break
            else:  # a crowd of points: no room
                label.remove()
                continue
            if math.hypot(*offset) > _NEAR:
                axes.annotate(
                    "",
                    (point.x, point.y),
                    xytext=offset,
                    textcoords="offset points",
                    arrowprops={"arrowstyle": "-", "linewidth": 0.4, "shrinkA": 12, "shrinkB": 3},
                )


def _caption(found: Tradeoff) -> str:
    words = [_CAPTION] if any(line.published for line in found.lines) else []
    if not all(line.comparable for line in found.lines):
        words.append(
            "* not comparable: deviates from the paper's protocol, is of another profile, or\n"
            "other records contradict it; its records say how."
        )
    return "\n".join(words)


def _draw_line(axes: Axes, line: Line, colour: str) -> None:
    xs, ys = [point.x for point in line.points], [point.y for point in line.points]
    axes.errorbar(
        xs,
        ys,
        xerr=None if line.published else [point.x_std for point in line.points],
        yerr=None if line.published else [point.y_std for point in line.points],
        color=colour,
        linestyle="--" if line.published else "-",
        marker="o",
        markersize=5,
        markerfacecolor="white" if line.published else colour,
        capsize=2,
        label=plain_text(line.title),
    )
