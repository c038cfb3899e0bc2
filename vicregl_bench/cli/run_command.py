"""`vicregl-bench run`: one task on one backbone."""

import contextlib
import shlex
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicregl_bench.cli.choices import Precision, Profile, Select
from vicregl_bench.cli.quiet import import_engine
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.cli.show_command import PictureRequest, draw_pictures, picture_names
from vicregl_bench.errors import EXIT_CHECK_FAILED, BenchError, ConfigError

if TYPE_CHECKING:
    from vicregl_bench.tasks.run import RunOutcome

_OUT = Path("runs")


class _Engine(StrEnum):
    mmdet = "mmdet"
    detectron2 = "detectron2"


def _sweep_overrides(lrs: str | None, seeds: int | None) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    if lrs is not None:
        try:
            overrides["sweep.lrs"] = [float(rate) for rate in lrs.replace(",", " ").split()]
        except ValueError:
            raise ConfigError(f"--lrs takes numbers such as 0.1,0.05, not {lrs!r}") from None
    if seeds is not None:
        overrides["sweep.seeds"] = seeds
    return overrides


def run(
    ckpt: Annotated[str, typer.Option(help="Checkpoint file, or random:ARCH.")],
    task: Annotated[str, typer.Option(help="Task; `vicregl-bench ls tasks` lists them.")],
    data_root: Annotated[Path, typer.Option(help="Where the data set is (docs/data.md).")],
    arch: Annotated[
        str | None, typer.Option(help="Architecture, where weights do not tell: resnet50_v1.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Reader of the checkpoint.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Key prefix of the backbone.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Unpickle foreign objects; they may run code.")
    ] = False,
    profile: Annotated[Profile, typer.Option(help="Full protocol or minutes.")] = Profile.paper,
    preset: Annotated[
        str | None,
        typer.Option(help="Of a task with several; else the checkpoint's card chooses."),
    ] = None,
    lrs: Annotated[str | None, typer.Option(help="Learning rates, such as 0.1,0.05.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Heads per learning rate.")] = None,
    select: Annotated[
        Select, typer.Option(help="What chooses the learning rate: val, or a slice of train.")
    ] = Select.val,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: schedule.iters=100 (a deviation)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[
        _Engine, typer.Option(help="Of voc_det_frcnn_c4 (docs/detectron2.md).")
    ] = _Engine.mmdet,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Of the frozen trunk (default bf16 on CUDA); of fine-tuning, by autocast."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Data loading processes.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of records.")] = _OUT,
    pictures: Annotated[
        str | None,
        typer.Option(help="Draw so many val pictures, or those of the names A,B, and the curve."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run again what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The record on stdout.")] = False,
) -> None:
    """Judge a backbone by a task; leaves one record in the folder of records."""
    from vicregl_bench.cli.output import print_json, print_record
    from vicregl_bench.engine.settings import parse_overrides
    from vicregl_bench.tasks.protocol import load_task, protocol_info, require_possible

    wanted = _chosen_pictures(pictures)
    overrides = parse_overrides(settings or []) | _sweep_overrides(lrs, seeds)
    _require_swept(task, lrs, seeds)
    require_possible(task, profile.value, overrides, preset)
    with StderrReporter() as reporter, contextlib.redirect_stdout(sys.stderr):
        # imported late: torch and mmseg take seconds, a wrong option should not
        import_engine(protocol_info(task).domain)
        from vicregl_bench.backbones.source import read_backbone
        from vicregl_bench.tasks.request import RunRequest
        from vicregl_bench.tasks.run import run_task

        source = read_backbone(
            ckpt, arch=arch, method=method, prefix=prefix, trust_pickle=trust_pickle
        )
        for fact in source.facts:
            reporter.console.print(fact, markup=False, soft_wrap=True)
        for note in source.notes:
            reporter.warn(note)
        chosen = load_task(
            task,
            profile.value,
            overrides,
            family=source.architecture.family,
            arch=source.architecture.name,
            preset=preset,
            suggested=source.card.detection_preset,
        )
        if chosen.preset is not None and preset is None:
            text = f"preset {chosen.preset} (--preset takes another)"
            reporter.console.print(text, markup=False, soft_wrap=True)
        request = RunRequest(
            task=chosen,
            source=source,
            data_root=data_root,
            out=out,
            select=select.value,
            precision=precision.value if precision else None,
            device=device,
            engine=engine.value,
            workers=workers,
            force=force,
            command=shlex.join(["vicregl-bench", *sys.argv[1:]]),
        )
        if wanted is not None:
            request = replace(request, pictures=wanted)
        outcome = run_task(request, reporter)
        if outcome.skipped:
            reporter.warn(f"this run is there already: {outcome.path} (--force runs it again)")
            if wanted:
                reporter.warn(f"draw what it kept: vicregl-bench show {outcome.path} --pictures")
        elif wanted and outcome.record.best is not None:
            try:
                _draw(outcome, data_root, reporter)
            except BenchError as error:  # the record is there, whatever its pictures
                reporter.warn(str(error))
    if as_json:
        print_json(outcome.record.model_dump(mode="json"))
    else:
        print_record(outcome.record)
        typer.echo(f"record: {outcome.path}")
    if outcome.record.status == "diverged":
        reporter.warn("every head diverged: try smaller learning rates with --lrs")
        raise typer.Exit(EXIT_CHECK_FAILED)


def _require_swept(task: str, lrs: str | None, seeds: int | None) -> None:
    """Stop where --lrs or --seeds is given to a task that has none."""
    from vicregl_bench.tasks.protocol import SETTINGS, protocol_info

    sweep = SETTINGS[protocol_info(task).kind].model_fields["sweep"].annotation
    fields = getattr(sweep, "model_fields", {})
    for option, value, what in (("lrs", lrs, "learning rates"), ("seeds", seeds, "seeds")):
        if value is not None and option not in fields:
            raise ConfigError(
                f"--{option}: {task} has no {what}; `vicregl-bench ls settings {task}` lists what "
                "it has"
            )


def _chosen_pictures(text: str | None) -> int | tuple[str, ...] | None:
    """What --pictures says: how many, or which. A number that begins with 0 is a name."""
    if text is None:
        return None
    number = text.strip()
    if number == "0" or (number.isdecimal() and not number.startswith("0")):
        return int(number)
    if number.startswith("-"):
        raise ConfigError(f"--pictures takes a number or names of pictures, not {text!r}")
    return picture_names(text, "--pictures")


def _draw(outcome: "RunOutcome", data_root: Path, reporter: StderrReporter) -> None:
    path = outcome.path
    request = PictureRequest(outcome.record, path, out=path.parent, data_root=data_root)
    drawn = draw_pictures(request, reporter.warn)
    names = ", ".join(str(one) for one in drawn)
    reporter.console.print(f"pictures: {names}", markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(run)
