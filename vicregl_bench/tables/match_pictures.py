"""Pictures of matches: two views side by side, with a line between cells that were matched.

Source: global-local self-distillation, figure 12: the fifteen matches of highest similarity.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from matplotlib.patheffects import withStroke

from vicregl_bench.records.matches import KeptMatches
from vicregl_bench.tables.detection_pictures import spread_colours
from vicregl_bench.tables.pictures import panel, plain_text, save_figure

_DPI = 110
# Sizes in inches.
_PANEL = 3.2  # side of a view
_GAP = 0.3
_NAME = 0.24  # line with the picture's name, above its row
_HEAD = 0.24


def draw_matches(rows: Sequence[KeptMatches], path: Path) -> None:
    """Two views and the best matches between them, one row a picture.

    A line goes from a cell of the second view to the one found in the first; a wrong one is dashed
    and has a cross where the true cell is. Colours only tell matches apart.

    Args:
        rows: what is kept of each picture; `pictures.MAX_ROWS` at most.
        path: where the PNG goes.

    Raises:
        RecordError: the file cannot be written.
    """
    full_width = 2 * _PANEL + _GAP
    full_height = _HEAD + len(rows) * (_NAME + _PANEL)
    figure = Figure(figsize=(full_width, full_height), dpi=_DPI)
    titles = ("first view (x: the true cell of a wrong match)", "second view")
    for index, title in enumerate(titles):
        middle = index * (_PANEL + _GAP) + _PANEL / 2
        figure.text(middle / full_width, 1 - 0.12 / full_height, title, ha="center", fontsize=9)
    top = full_height - _HEAD
    for kept in rows:
        top -= _NAME + _PANEL
        figure.text(0, (top + _PANEL + 0.06) / full_height, plain_text(describe(kept)), fontsize=7)
        _draw_row(figure, kept, top)
    save_figure(figure, path)


def describe(kept: KeptMatches) -> str:
    """What a row shows, in words."""
    return (
        f"{kept.name}: {int(kept.right.sum())} of the best {len(kept.cells)} matches right; of all "
        f"{kept.grid[0]}x{kept.grid[1]} cells {kept.accuracy:.1f} % right, distance error "
        f"{kept.error:.1f} % of the side"
    )


def cell_centre(kept: KeptMatches, cell: int) -> tuple[float, float]:
    """x, y of a cell's centre in pixels of a view; the middle of the first pixel is at 0."""
    rows, columns = kept.grid
    height, width = kept.views.shape[1:3]
    row, column = divmod(cell, columns)
    return (column + 0.5) * width / columns - 0.5, (row + 0.5) * height / rows - 0.5


def _draw_row(figure: Figure, kept: KeptMatches, bottom: float) -> None:
    left, right = (
        panel(figure, index * (_PANEL + _GAP), bottom, _PANEL, _PANEL) for index in range(2)
    )
    for axes, view in zip((left, right), kept.views, strict=True):
        axes.imshow(view)
    shades = spread_colours(len(kept.cells)) / 255
    for (query, found, truth), fine, colour in zip(kept.cells, kept.right, shades, strict=True):
        shade = tuple(map(float, colour))
        line = ConnectionPatch(
            xyA=cell_centre(kept, int(query)),
            xyB=cell_centre(kept, int(found)),
            coordsA="data",
            coordsB="data",
            axesA=right,
            axesB=left,
            color=shade,
            linewidth=1.2,
            linestyle="solid" if fine else (0, (4, 2)),
            path_effects=[withStroke(linewidth=2.4, foreground="white", alpha=0.6)],
        )
        figure.add_artist(line)
        for axes, cell in ((right, query), (left, found)):
            axes.plot(
                *cell_centre(kept, int(cell)), "o", color=shade, markersize=4, markeredgecolor="k"
            )
        if not fine:
            x, y = cell_centre(kept, int(truth))
            left.plot(x, y, "x", color=shade, markersize=6, markeredgewidth=1.8)
