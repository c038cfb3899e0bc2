"""`vicregl-bench data`: check a data root, or make pictures up."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicregl_bench.cli.output import print_json, print_text
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.errors import EXIT_CHECK_FAILED, ConfigError

if TYPE_CHECKING:
    from vicregl_bench.data import CheckReport, ClassificationReport, DetectionReport, Report
    from vicregl_bench.data.sound import DataSet

data = typer.Typer(help="Check a data root, or make a small one up.", no_args_is_help=True)


@data.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="Task whose data is checked, or voc, cityscapes, ade20k, voc_boxes, coco, "
            "folder, imagenet, places205, inat18, cub200 (docs/data.md has all), voc_labels.",
        ),
    ],
    data_root: Annotated[Path, typer.Option(help="Where the data set is.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Decode every picture, read every mask or box: counts, whatever is wrong. Exit 1 if so."""
    from vicregl_bench.data import CheckReport, ClassificationReport, DetectionReport
    from vicregl_bench.data.sound import check as check_data

    dataset = _read(name, data_root)
    with StderrReporter() as reporter:
        total = len(dataset.train) + len(dataset.val)
        update = reporter.stage("decoding", total)
        report = check_data(dataset, on_progress=lambda done, _: update(done))
    if as_json:
        print_json(report.to_json())
    elif isinstance(report, DetectionReport):
        _print_detection(report)
    elif isinstance(report, ClassificationReport):
        _print_classification(report)
    elif isinstance(report, CheckReport):
        _print_segmentation(report)
    if not report.ok:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _read(name: str, data_root: Path) -> "DataSet":
    """Read the lists of a data set, or of a task's data set in the task's variant."""
    from vicregl_bench.data import (
        CLASSIFICATION_SETS,
        DETECTION_SETS,
        MULTI_LABEL_SETS,
        SEGMENTATION_SETS,
        read_classification,
        read_detection,
        read_multi_label,
        read_segmentation,
    )
    from vicregl_bench.tasks.protocol import load_task, task_names

    dataset, variant = name, None
    known = (*SEGMENTATION_SETS, *DETECTION_SETS, *CLASSIFICATION_SETS, *MULTI_LABEL_SETS)
    if name not in known:
        if name not in task_names():
            raise ConfigError(
                f"no task or data set {name!r}; data sets: {', '.join(known)} "
                "(`vicregl-bench ls tasks` lists the tasks)"
            )
        settings = load_task(name).settings.data
        dataset, variant = settings.dataset, settings.variant
    if dataset in DETECTION_SETS:
        return read_detection(dataset, data_root, variant)
    if dataset in CLASSIFICATION_SETS:
        return read_classification(dataset, data_root, variant)
    if dataset in MULTI_LABEL_SETS:
        return read_multi_label(dataset, data_root, variant)
    return read_segmentation(dataset, data_root, variant)


def _print_segmentation(report: "CheckReport") -> None:
    _print_head(report, f"{report.variant}, masks: {report.masks}")
    pictures = {split: [*counts, None] for split, counts in report.pictures.items()}
    _print_counts([*report.classes, "(ignored)"], "pixels", report.pixels, pictures)
    _print_problems(report)


def _print_detection(report: "DetectionReport") -> None:
    _print_head(report, report.variant)
    _print_counts(report.classes, "objects", report.objects, report.pictures)
    for split in ("train", "val"):
        print_text(
            f"{split}: {sum(report.objects[split]):,} objects, {report.ignored[split]:,} more "
            f"difficult or crowds; {report.empty[split]:,} pictures without objects"
        )
    _print_problems(report)


def _print_classification(report: "ClassificationReport") -> None:
    _print_head(report, report.variant)
    width = max(14, 2 + max(map(len, report.classes)))
    print_text(f"{'class':<{width}}{'train pictures':>16}{'val pictures':>16}")
    for row in zip(report.classes, report.pictures["train"], report.pictures["val"], strict=True):
        print_text(f"{row[0]:<{width}}{row[1]:>16,}{row[2]:>16,}")
    for split, counts in report.pictures.items():
        left_out = sum(report.left_out[split])
        more = f"; {left_out:,} labels left out, of difficult objects alone" if left_out else ""
        print_text(f"{split}: {min(counts):,} to {max(counts):,} pictures a class{more}")
    _print_problems(report)


def _print_head(report: "Report", what: str) -> None:
    print_text(f"{report.root} ({what}): {report.train} train, {report.val} val")
    for note in report.notes:
        print_text(f"note: {note}")


def _print_counts(
    names: Sequence[str],
    unit: str,
    counts: Mapping[str, Sequence[int]],
    pictures: Mapping[str, Sequence[int | None]],
) -> None:
    """Print a row a class: counts and pictures of train, then of val."""
    width = max(14, 2 + max(map(len, names)))
    heads = [f"{f'{split} {unit}':>14}{'pictures':>10}" for split in ("train", "val")]
    print_text(f"{'class':<{width}}{''.join(heads)}")

    def cells(split: str, i: int) -> str:
        shown = pictures[split][i]
        return f"{counts[split][i]:>14,}" + (" " * 10 if shown is None else f"{shown:>10,}")

    for i, name in enumerate(names):
        print_text(f"{name:<{width}}{cells('train', i)}{cells('val', i)}")


def _print_problems(report: "Report") -> None:
    for problem in report.problems:
        print_text(f"{problem.severity}: {problem.file}: {problem.text}")
    print_text("sound" if report.ok else f"{len(report.errors)} errors")


@data.command()
def make(
    layout: Annotated[
        str, typer.Argument(help="Layout: voc, cityscapes, ade20k, voc_boxes, coco or folder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make; gets the data set's official tree.")],
    train: Annotated[int, typer.Option(help="Training pictures.")] = 48,
    val: Annotated[int, typer.Option(help="Validation pictures.")] = 24,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Make small textured pictures up in a genuine data set's layout."""
    from vicregl_bench.data import MAKERS

    if layout not in MAKERS:
        raise ConfigError(f"no layout {layout!r}; use {', '.join(MAKERS)}")
    root = MAKERS[layout](out, train=train, val=val, seed=seed)
    if as_json:
        print_json({"data_root": str(root), "train": train, "val": val, "seed": seed})
    else:
        print_text(f"data root: {root}")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(data, name="data")
