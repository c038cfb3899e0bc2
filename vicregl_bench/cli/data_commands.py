"""`vicregl-bench data`: check a data root, or make pictures up."""

from pathlib import Path
from typing import Annotated

import typer

from vicregl_bench.cli.output import print_json, print_text
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.errors import EXIT_CHECK_FAILED, ConfigError

data = typer.Typer(help="Check a data root, or make a small one up.", no_args_is_help=True)


@data.command()
def check(
    task: Annotated[str, typer.Argument(help="Task whose data is checked.")],
    data_root: Annotated[Path, typer.Option(help="Where the data set is.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Decode every picture and mask: counts, label histogram, whatever is wrong. Exit 1 if so."""
    from vicregl_bench.data import CLASSES, check_segmentation, read_voc_segmentation
    from vicregl_bench.tasks.protocol import load_task

    variant = load_task(task).settings.data.variant
    dataset = read_voc_segmentation(data_root, variant=variant)
    with StderrReporter() as reporter:
        total = len(dataset.train) + len(dataset.val)
        update = reporter.stage("decoding", total)
        report = check_segmentation(dataset, on_progress=lambda done, _: update(done))
    if as_json:
        print_json(report.to_json())
    else:
        print_text(f"{report.root} ({report.variant}): {report.train} train, {report.val} val")
        for note in dataset.notes:
            print_text(f"note: {note}")
        print_text(
            f"{'class':<14}{'train pixels':>14}{'pictures':>10}{'val pixels':>14}{'pictures':>10}"
        )

        def shown(split: str, i: int) -> str:
            counts = report.pictures[split]
            return f"{counts[i]:>10,}" if i < len(counts) else " " * 10

        for i, name in enumerate([*CLASSES, "(ignored)"]):
            cells = [
                f"{report.pixels[split][i]:>14,}{shown(split, i)}" for split in ("train", "val")
            ]
            print_text(f"{name:<14}{''.join(cells)}")
        for problem in report.problems:
            print_text(f"{problem.severity}: {problem.file}: {problem.text}")
        print_text("sound" if report.ok else f"{len(report.errors)} errors")
    if not report.ok:
        raise typer.Exit(EXIT_CHECK_FAILED)


@data.command()
def make(
    layout: Annotated[str, typer.Argument(help="Layout: voc.")],
    out: Annotated[Path, typer.Option(help="Folder to make; gets VOCdevkit/VOC2012.")],
    train: Annotated[int, typer.Option(help="Training pictures.")] = 48,
    val: Annotated[int, typer.Option(help="Validation pictures.")] = 24,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Make small textured pictures up in a genuine data set's layout."""
    from vicregl_bench.data import make_voc

    if layout != "voc":
        raise ConfigError(f"no layout {layout!r}; use voc")
    root = make_voc(out, train=train, val=val, seed=seed)
    if as_json:
        print_json({"data_root": str(root), "train": train, "val": val, "seed": seed})
    else:
        print_text(f"data root: {root}")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(data, name="data")
