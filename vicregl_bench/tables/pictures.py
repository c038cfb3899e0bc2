"""Pictures of a run: learning-rate curve, predictions beside ground truth, bars per class."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from vicregl_bench.errors import ConfigError
from vicregl_bench.records.metrics import metric_title
from vicregl_bench.records.schema import Best, Record
from vicregl_bench.records.store import write_file
from vicregl_bench.tables.frames import learning_rate_curve, point_text, score_text

LabelMap = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.uint8]

MAX_ROWS = 50  # pictures in one drawing: matplotlib draws at most 2**16 pixels high

_DPI = 110
_MISSING = 200  # grey of a picture that is not there
# Sizes in inches.
_PANEL = 2.6  # width of a picture
_HEIGHTS = (1.1, 3.4)  # of a row: pictures keep their aspect within these
_GAP = 0.08
_NAME = 0.22  # line with the picture's name, above its row
_HEAD = 0.3
_LEGEND = 1.2  # width of one column of class names
_LEGEND_LINE = 0.14
_LEGEND_COLUMNS = 3
_BARS_A_COLUMN = 50


def save_figure(figure: Figure, path: Path) -> None:
    """Write a drawing as PNG, cut to what is drawn.

    Raises:
        RecordError: the file cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    write_file(path, buffer.getvalue())


def plain_text(text: str) -> str:
    """Text that matplotlib takes as it is: no formulas."""
    return text.replace("$", r"\$")


def draw_curve(record: Record, path: Path) -> None:
    """The score over the learning rate, mean and spread over seeds, the best marked.

    One line for each value of what else the grid varies, such as the warm-up. A grid without
    learning rates is drawn point by point, in its order.

    Raises:
        ConfigError: the record has no score (interrupted, or every head diverged).
        RecordError: the file cannot be written.
    """
    if all(result.score is None for result in record.results):
        raise ConfigError(f"no learning-rate curve: {_without(record)}")
    figure = Figure(figsize=(5, 3.2), dpi=120)
    axes = figure.subplots()
    curve = learning_rate_curve(record)
    best = record.best
    if curve["lr"].isna().all():
        _draw_points(axes, curve, None if best is None else point_text(best))
    else:
        _draw_rates(axes, curve, best)
    axes.set_ylabel(f"{metric_title(record.task.metric)} (%)")
    axes.set_title(plain_text(f"{record.checkpoint.name}, {record.task.name}"), fontsize=9)
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def _draw_points(axes: Axes, curve: pd.DataFrame, best: str | None) -> None:
    """One mark a point of the grid."""
    places = range(len(curve))
    axes.errorbar(places, curve["score"], yerr=curve["std"], marker="o", capsize=3)
    names = [plain_text(str(name)) for name in curve["point"]]
    axes.set_xticks(places, names, rotation=45, ha="right", fontsize=8)
    if best is not None:
        place = list(curve["point"]).index(best)
        axes.axvline(place, linestyle=":", color="grey", label="best")
        axes.legend(fontsize=8)


def _draw_rates(axes: Axes, curve: pd.DataFrame, best: Best | None) -> None:
    """One line for each value of what the grid varies beside the learning rate."""
    lines = list(curve.groupby("options", sort=False))
    for options, line in lines:
        axes.errorbar(
            line["lr"],
            line["score"],
            yerr=line["std"],
            marker="o",
            capsize=3,
            label=plain_text(str(options)) or None,
        )
    if best is not None and best.lr is not None:
        axes.axvline(best.lr, linestyle=":", color="grey", label="best")
        if len(lines) > 1:  # the rate alone does not say which point
            axes.plot(best.lr, best.score, "*", color="black", markersize=12, zorder=3)
    if len(lines) > 1:  # captions are long
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.3))
    elif best is not None:
        axes.legend(fontsize=8)
    rates = sorted(set(curve["lr"]))
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{lr:g}" for lr in rates], rotation=45, fontsize=8)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("learning rate")


def _without(record: Record) -> str:
    reason = {"interrupted": "it was interrupted", "diverged": "every head diverged"}
    return f"the record of {record.checkpoint.name} has no score, " + reason.get(
        record.status, "it has no best learning rate"
    )


@dataclass(frozen=True)
class ClassBar:
    """The score of one class in percent, and another record's."""

    name: str
    score: float
    against: float | None = None

    @property
    def gain(self) -> float:
        """How much higher than the other record's, in points."""
        return self.score - (self.against or 0.0)


def class_bars(record: Record, against: Record | None = None) -> list[ClassBar]:
    """The score of every class that has one (in both), the highest or the largest gain first.

    Args:
        record: its best learning rate is taken.
        against: a record of the same classes; its values stand beside, and differences sort.

    Raises:
        ConfigError: a record without best learning rate, other classes, or none with a value.
    """
    for one in (record, against):
        if one is not None and one.best is None:
            raise ConfigError(f"no bars per class: {_without(one)}")
    assert record.best is not None
    own = record.best.by_class
    if against is None or against.best is None:
        bars = [ClassBar(name, value) for name, value in own.items() if value is not None]
    else:
        other = against.best.by_class
        if list(own) != list(other):
            raise ConfigError(
                f"the record of {against.checkpoint.name} ({against.task.name}) has other classes "
                f"than that of {record.checkpoint.name} ({record.task.name}), {len(other)} and "
                f"{len(own)}: compare records of one data set"
            )
        bars = [
            ClassBar(name, value, theirs)
            for name, value in own.items()
            if value is not None and (theirs := other[name]) is not None
        ]
    if not bars:
        both = " in both records" if against is not None else ""
        raise ConfigError(f"no bars per class: no class has a value{both}")
    return sorted(bars, key=lambda bar: -bar.gain)


def _captions(records: Sequence[Record]) -> list[str]:
    """What tells records apart in a legend: score and checkpoint, and as much more as needed."""
    names = [record.checkpoint.name for record in records]
    if len(set(names)) < len(records):
        names = [
            f"{record.checkpoint.name}, {record.task.name} v{record.task.version} "
            f"({record.task.profile})"
            for record in records
        ]
    if len(set(names)) < len(records):
        names = [f"{name}, {record.key[:12]}" for name, record in zip(names, records, strict=True)]
    return [
        plain_text(f"{metric_title(record.task.metric)} {score_text(record.best, 1)}: {name}")
        for name, record in zip(names, records, strict=True)
        if record.best is not None
    ]


def by_class_title(record: Record) -> str:
    """What a record's metric is called of a single class."""
    metric = record.task.metric
    return "IoU" if metric == "miou" else metric_title(metric)


def draw_classes(record: Record, path: Path, against: Record | None = None) -> None:
    """The score per class as bars, of one record or of two side by side; see `class_bars`.

    Raises:
        ConfigError: as `class_bars`.
        RecordError: the file cannot be written.
    """
    bars = class_bars(record, against)
    columns = math.ceil(len(bars) / _BARS_A_COLUMN)
    length = math.ceil(len(bars) / columns)
    line = 0.19 if against is None else 0.26
    height = line * (length + 1)
    figure = Figure(figsize=(5.0 * columns, height + 1.3), dpi=_DPI)
    grid: Any = figure.subplots(1, columns, squeeze=False)
    for index, axes in enumerate(grid[0]):
        _draw_bars(axes, bars[index * length : (index + 1) * length], length)
        axes.set_xlabel(f"{by_class_title(record)} (%)", fontsize=8)
    shown = [record] if against is None else [record, against]
    title = f"{by_class_title(record)} per class, {record.task.name}"
    if against is not None:
        title += f"\nlargest gain of {record.checkpoint.name} first; differences at the bars"
    left_out = 0 if record.best is None else len(record.best.by_class) - len(bars)
    if left_out:
        title += f"\nleft out, as without value: {left_out} of {left_out + len(bars)} classes"
    figure.suptitle(plain_text(title), fontsize=9)
    handles = [Patch(color=f"C{index}") for index in range(len(shown))]
    figure.legend(handles, _captions(shown), loc="lower center", fontsize=8, ncols=1)
    figure.tight_layout(rect=(0, 0.55 / (height + 1.3), 1, 1))
    save_figure(figure, path)


def _draw_bars(axes: Axes, bars: Sequence[ClassBar], length: int) -> None:
    """Horizontal bars from the top; `length` places, so that all columns have bars of one size."""
    places = np.arange(len(bars))
    paired = any(bar.against is not None for bar in bars)
    thickness = 0.38 if paired else 0.76
    shift = thickness / 2 if paired else 0.0
    axes.barh(places - shift, [bar.score for bar in bars], thickness, color="C0")
    if paired:
        axes.barh(places + shift, [bar.against or 0.0 for bar in bars], thickness, color="C1")
    for place, bar in enumerate(bars):
        text = f"{bar.gain:+.1f}" if paired else f"{bar.score:.1f}"
        axes.text(max(bar.score, bar.against or 0.0) + 1, place, text, va="center", fontsize=7)
    axes.set_yticks(places, [plain_text(bar.name) for bar in bars], fontsize=7)
    axes.set_ylim(length - 0.4, -0.6)
    axes.set_xlim(0, 110)  # room for the number at a full bar
    axes.set_xticks(range(0, 101, 20))
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def draw_predictions(
    rows: Sequence[tuple[Path, LabelMap, LabelMap]],
    colours: npt.NDArray[np.uint8],
    path: Path,
    classes: Sequence[str] = (),
) -> tuple[Path, ...]:
    """Picture, ground truth, prediction and the classes in them, one row a picture.

    Args:
        rows: path of the picture, its labels (H, W), and the predicted ones; `MAX_ROWS` at most.
        colours: (256, 3) by label, 255 for ignored.
        path: where the PNG goes.
        classes: names by label; one without name goes by its number.

    Returns:
        The pictures that cannot be read; a grey panel stands for each.

    Raises:
        RecordError: the file cannot be written.
    """
    heights = [_row_height(truth) for _, truth, _ in rows]
    legends = [_legend(truth, labels, classes) for _, truth, labels in rows]
    columns = [
        min(_LEGEND_COLUMNS, math.ceil(len(legend) / _legend_lines(height)))
        for legend, height in zip(legends, heights, strict=True)
    ]
    full_width = 3 * (_PANEL + _GAP) + max(columns) * _LEGEND
    full_height = _HEAD + sum(heights) + len(rows) * _NAME
    figure = Figure(figsize=(full_width, full_height), dpi=_DPI)
    for index, title in enumerate(("picture", "ground truth (pale: ignored)", "prediction")):
        middle = index * (_PANEL + _GAP) + _PANEL / 2
        figure.text(middle / full_width, 1 - 0.15 / full_height, title, ha="center", fontsize=9)
    missing = []
    top = full_height - _HEAD
    for (image, truth, labels), height, legend, wide in zip(
        rows, heights, legends, columns, strict=True
    ):
        pixels = read_picture(image)
        if pixels is None:
            missing.append(image)
        top -= _NAME
        about = f"{image.stem}{_right(truth, labels)}"
        figure.text(0, (top + 0.05) / full_height, plain_text(about), fontsize=7)
        panels = [
            panel(figure, index * (_PANEL + _GAP), top - height, _PANEL, height)
            for index in range(3)
        ]
        draw_picture(panels[0], pixels, truth.shape)
        for axes, drawn in zip(panels[1:], (truth, labels), strict=True):
            axes.imshow(colours[drawn], interpolation="nearest")  # exact colours
        _draw_legend(figure, legend, colours, height, wide, top)
        top -= height
    save_figure(figure, path)
    return tuple(missing)


def panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes without frame at a place in inches."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((left / wide, bottom / high, width / wide, height / high))
    axes.set_axis_off()
    return axes


def _row_height(truth: LabelMap) -> float:
    low, high = _HEIGHTS
    return float(np.clip(_PANEL * truth.shape[0] / truth.shape[1], low, high))


def _legend_lines(height: float) -> int:
    return int(height / _LEGEND_LINE)


def read_picture(path: Path) -> Pixels | None:
    """A picture's pixels (H, W, 3); None where it is missing or damaged."""
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
    except (OSError, SyntaxError, ValueError):  # what Pillow raises on damage
        return None


def _right(truth: LabelMap, labels: LabelMap) -> str:
    known = truth != 255
    if not known.any():
        return ""
    return f": {100 * (truth == labels)[known].mean():.1f} % of labelled pixels right"


def _legend(truth: LabelMap, labels: LabelMap, classes: Sequence[str]) -> list[tuple[int, str]]:
    """Label and name of the classes of a row, the largest in both maps together first."""
    areas = np.bincount(truth.ravel(), minlength=256) + np.bincount(labels.ravel(), minlength=256)
    areas[255] = 0
    order = [int(label) for label in np.argsort(-areas, kind="stable") if areas[label]]
    return [
        (label, classes[label] if label < len(classes) else f"class {label}") for label in order
    ]


def draw_picture(axes: Axes, pixels: Pixels | None, shape: tuple[int, ...]) -> None:
    """The picture, or a grey panel of the labels' shape where it is missing."""
    if pixels is None:
        axes.imshow(np.full((*shape, 3), _MISSING, dtype=np.uint8))
        axes.text(0.5, 0.5, "not found", ha="center", transform=axes.transAxes, fontsize=8)
    else:
        axes.imshow(pixels)


def _draw_legend(
    figure: Figure,
    legend: Sequence[tuple[int, str]],
    colours: npt.NDArray[np.uint8],
    height: float,
    columns: int,
    top: float,
) -> None:
    """Colour and name of each class right of a row; the smallest are counted where all won't go."""
    width, full = figure.get_size_inches()
    lines = _legend_lines(height)
    room = lines * columns
    shown = legend if len(legend) <= room else legend[: room - 1]
    entries = [(tuple(colours[label] / 255), name) for label, name in shown]
    if len(shown) < len(legend):
        entries.append(((1.0, 1.0, 1.0), f"and {len(legend) - len(shown)} smaller"))
    for index, (colour, name) in enumerate(entries):
        left = 3 * (_PANEL + _GAP) + (index // lines) * _LEGEND
        middle = top - (index % lines + 0.5) * _LEGEND_LINE
        patch = Rectangle(
            (left / width, (middle - 0.045) / full),
            0.14 / width,
            0.09 / full,
            facecolor=colour,
            edgecolor="grey",
            linewidth=0.4,
            transform=figure.transFigure,
        )
        figure.add_artist(patch)
        figure.text(
            (left + 0.18) / width, middle / full, plain_text(name), va="center", fontsize=6.5
        )
