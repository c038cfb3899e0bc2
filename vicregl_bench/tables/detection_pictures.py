"""Pictures of what a detector found: boxes beside those that are there."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from vicregl_bench.records.detections import KeptDetections
from vicregl_bench.tables.pictures import (
    draw_picture,
    panel,
    plain_text,
    read_picture,
    save_figure,
)

_DPI = 110
# Sizes in inches.
_PANEL = 4.4  # width of a picture
_HEIGHTS = (1.8, 4.4)  # of a row: pictures keep their aspect within these
_GAP = 0.1
_NAME = 0.24  # line with the picture's name, above its row
_HEAD = 0.24
_LINE = 0.13  # of a name at a box
_GOLDEN = (5**0.5 - 1) / 2


def spread_colours(count: int) -> npt.NDArray[np.uint8]:
    """(count, 3) colours that differ well, neighbours too: hues a golden section apart."""
    saturations, values = (1.0, 0.6, 0.8), (0.9, 1.0, 0.7)
    shades = [
        colorsys.hsv_to_rgb(k * _GOLDEN % 1, saturations[k % 3], values[k // 3 % 3])
        for k in range(count)
    ]
    return (255 * np.array(shades).reshape(-1, 3)).round().astype(np.uint8)


def draw_detections(
    rows: Sequence[tuple[Path, KeptDetections]],
    classes: Sequence[str],
    path: Path,
    colours: npt.NDArray[np.uint8],
    *,
    threshold: float = 0.3,
    most: int = 20,
) -> tuple[Path, ...]:
    """Boxes that are there and boxes found, one row a picture.

    Args:
        rows: path of the picture, and what is kept of it; `pictures.MAX_ROWS` at most.
        classes: names by label.
        path: where the PNG goes.
        colours: (C, 3) by label.
        threshold: least score of a box that is drawn.
        most: boxes drawn of those in a picture, the best.

    Returns:
        The pictures that cannot be read; a grey panel stands for each.

    Raises:
        RecordError: the file cannot be written.
    """
    heights = [float(np.clip(_PANEL * k.size[0] / k.size[1], *_HEIGHTS)) for _, k in rows]
    full_width = 2 * _PANEL + _GAP
    full_height = _HEAD + sum(heights) + len(rows) * _NAME
    figure = Figure(figsize=(full_width, full_height), dpi=_DPI)
    titles = ("ground truth (dashed: ignored)", f"prediction (score {threshold:g} or more)")
    for index, title in enumerate(titles):
        middle = index * (_PANEL + _GAP) + _PANEL / 2
        figure.text(middle / full_width, 1 - 0.12 / full_height, title, ha="center", fontsize=9)
    missing = []
    top = full_height - _HEAD
    for (image, kept), height in zip(rows, heights, strict=True):
        pixels = read_picture(image)
        if pixels is None:
            missing.append(image)
        top -= _NAME
        chosen = best_detections(kept, threshold, most)
        figure.text(
            0,
            (top + 0.06) / full_height,
            plain_text(_about(kept, len(chosen), threshold)),
            fontsize=7,
        )
        left, right = (
            panel(figure, index * (_PANEL + _GAP), top - height, _PANEL, height)
            for index in range(2)
        )
        for axes in (left, right):
            draw_picture(axes, pixels, kept.size)
        for k in _largest_first(kept.truth_boxes):
            label = int(kept.truth_labels[k])
            _draw_box(
                left,
                kept.size,
                kept.truth_boxes[k],
                classes[label],
                colours[label],
                bool(kept.ignored[k]),
            )
        for k in chosen[::-1]:  # the best on top
            label = int(kept.labels[k])
            text = f"{classes[label]} {kept.scores[k]:.2f}"
            _draw_box(right, kept.size, kept.boxes[k], text, colours[label])
        top -= height
    save_figure(figure, path)
    return tuple(missing)


def best_detections(kept: KeptDetections, threshold: float, most: int) -> list[int]:
    """Which detections of a picture are drawn, the best first."""
    order = np.argsort(-kept.scores, kind="stable")
    return [int(k) for k in order if kept.scores[k] >= threshold][:most]


def _about(kept: KeptDetections, drawn: int, threshold: float) -> str:
    there = int((~kept.ignored).sum())
    objects = f"{there} object{'s' * (there != 1)}"
    if kept.ignored.any():
        objects += f" and {int(kept.ignored.sum())} ignored"
    found = int((kept.scores >= threshold).sum())
    rest = f", the best {drawn} drawn" if drawn < found else ""
    return f"{kept.name}: {objects}; {found} found{rest}"


def _largest_first(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Order in which no box hides a smaller one."""
    return np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1), kind="stable")


def _draw_box(
    axes: Axes,
    size: tuple[int, int],
    box: npt.NDArray[np.float32],
    text: str,
    colour: npt.NDArray[np.uint8],
    dashed: bool = False,
) -> None:
    """A box and its name, above it where there is room, within the picture of this size.

    The pale edge makes dark colours seen on dark ground.
    """
    x1, y1, x2, y2 = map(float, box)
    shade = tuple(colour / 255)
    axes.add_patch(
        Rectangle(
            (x1 - 0.5, y1 - 0.5),  # the middle of the first pixel is at 0
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=shade,
            linewidth=1.6,
            linestyle=(0, (3, 2)) if dashed else "solid",
            path_effects=[withStroke(linewidth=3.0, foreground="white", alpha=0.6)],
        )
    )
    height, width = size
    inches = axes.get_window_extent().height / axes.figure.dpi
    line = height * _LINE / inches  # a line of text in pixels of the picture
    above = y1 > line
    rightmost = x1 > 0.8 * width
    light = float(colour @ np.array([0.299, 0.587, 0.114])) > 140  # luma of BT.601
    axes.text(
        min(x2, width) if rightmost else max(x1, 0.0),
        y1 if above else max(y1, 0.0),
        plain_text(text),
        fontsize=6.5,
        color="black" if light else "white",
        ha="right" if rightmost else "left",
        va="bottom" if above else "top",
        clip_on=True,
        bbox={"facecolor": shade, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )
