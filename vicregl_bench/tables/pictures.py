"""Pictures of a run: the learning-rate curve, and predictions beside ground truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from vicregl_bench.records.schema import Record
from vicregl_bench.tables.frames import learning_rate_curve

LabelMap = npt.NDArray[np.uint8]


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def draw_curve(record: Record, path: Path) -> None:
    """MIoU over the learning rate, mean and spread over seeds, the best marked."""
    curve = learning_rate_curve(record)
    figure = Figure(figsize=(5, 3.2), dpi=120)
    axes = figure.subplots()
    axes.errorbar(curve["lr"], curve["mIoU"], yerr=curve["std"], marker="o", capsize=3)
    if record.best is not None:
        axes.axvline(record.best.lr, linestyle=":", color="grey", label="best")
        axes.legend(fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("mIoU (%)")
    axes.set_title(f"{record.checkpoint.name}, {record.task.name}", fontsize=9)
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_predictions(
    rows: Sequence[tuple[Path, LabelMap, LabelMap]], colours: npt.NDArray[np.uint8], path: Path
) -> None:
    """Picture, ground truth and prediction side by side, one row a picture.

    Args:
        rows: path of the picture, its labels (H, W), and the predicted ones.
        colours: (256, 3) by label, 255 for ignored.
        path: where the PNG goes.
    """
    figure = Figure(figsize=(7.5, 2.2 * len(rows)), dpi=110)
    grid: Any = figure.subplots(len(rows), 3, squeeze=False)
    for line, (image, truth, labels) in zip(grid, rows, strict=True):
        with Image.open(image) as file:
            pixels = np.asarray(file.convert("RGB"))
        for axes, panel in zip(line, (pixels, colours[truth], colours[labels]), strict=True):
            axes.imshow(panel)
            axes.set_axis_off()
        line[0].set_title(image.stem, fontsize=7)
    for axes, title in zip(
        grid[0][1:], ("ground truth (pale: ignored)", "prediction"), strict=True
    ):
        axes.set_title(title, fontsize=8)
    figure.tight_layout()
    _save(figure, path)
