"""`vicregl-bench data`: check a data root, or make pictures up."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicregl_bench.cli.output import print_json, print_text
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.errors import EXIT_CHECK_FAILED, ConfigError

if TYPE_CHECKING:
    from vicregl_bench.data import CheckReport, SegmentationData

data = typer.Typer(help="Check a data root, or make a small one up.", no_args_is_help=True)


@data.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="Task whose data is checked, or voc, cityscapes, ade20k."
        ),
    ],
    data_root: Annotated[Path, typer.Option(help="Where the data set is.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Decode every picture and mask: counts, label histogram, whatever is wrong. Exit 1 if so."""
    from vicregl_bench.data import check_segmentation

    dataset = _read(name, data_root)
    with StderrReporter() as reporter:
        total = len(dataset.train) + len(dataset.val)
        update = reporter.stage("decoding", total)
        report = check_segmentation(dataset, on_progress=lambda done, _: update(done))
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _read(name: str, data_root: Path) -> "SegmentationData":
    """Read the lists of a data set, or of a task's data set in the task's variant."""
    from vicregl_bench.data import SEGMENTATION_SETS, read_segmentation
    from vicregl_bench.tasks.protocol import load_task, task_names

    if name in SEGMENTATION_SETS:
        return read_segmentation(name, data_root)
    if name not in task_names():
        raise ConfigError(
            f"no task or data set {name!r}; data sets: {', '.join(SEGMENTATION_SETS)} "
            "(`vicregl-bench ls tasks` lists the tasks)"
        )
    settings = load_task(name).settings.data
    return read_segmentation(settings.dataset, data_root, settings.variant)


def _print_report(report: "CheckReport") -> None:
    print_text(
        f"{report.root} ({report.variant}, masks: {report.masks}): {report.train} train, "
        f"{report.val} val"
    )
    for note in report.notes:
        print_text(f"note: {note}")
    width = max(14, 2 + max(map(len, report.classes)))
    print_text(
        f"{'class':<{width}}{'train pixels':>14}{'pictures':>10}{'val pixels':>14}{'pictures':>10}"
    )

    def shown(split: str, i: int) -> str:
        counts = report.pictures[split]
        return f"{counts[i]:>10,}" if i < len(counts) else " " * 10

    for i, name in enumerate([*report.classes, "(ignored)"]):
        cells = [f"{report.pixels[split][i]:>14,}{shown(split, i)}" for split in ("train", "val")]
        print_text(f"{name:<{width}}{''.join(cells)}")
    for problem in report.problems:
        print_text(f"{problem.severity}: {problem.file}: {problem.text}")
    print_text("sound" if report.ok else f"{len(report.errors)} errors")


@data.command()
def make(
    layout: Annotated[str, typer.Argument(help="Layout: voc, cityscapes or ade20k.")],
    out: Annotated[Path, typer.Option(help="Folder to make; gets the data set's official tree.")],
    train: Annotated[int, typer.Option(help="Training pictures.")] = 48,
    val: Annotated[int, typer.Option(help="Validation pictures.")] = 24,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Make small textured pictures up in a genuine data set's layout."""
    from vicregl_bench.data import make_ade20k, make_cityscapes, make_voc

    makers = {"voc": make_voc, "cityscapes": make_cityscapes, "ade20k": make_ade20k}
    if layout not in makers:
        raise ConfigError(f"no layout {layout!r}; use {', '.join(makers)}")
    root = makers[layout](out, train=train, val=val, seed=seed)
    if as_json:
        print_json({"data_root": str(root), "train": train, "val": val, "seed": seed})
    else:
        print_text(f"data root: {root}")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(data, name="data")
