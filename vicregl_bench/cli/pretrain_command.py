"""`vicregl-bench pretrain`: train a backbone without labels."""

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vicregl_bench.cli.reporter import StderrReporter


def pretrain(
    recipe: Annotated[str, typer.Option(help="Recipe; `vicregl-bench ls recipes` lists them.")],
    data: Annotated[Path, typer.Option(help="Folder of pictures, or of class folders.")],
    out: Annotated[Path, typer.Option(help="Folder for logs and checkpoints.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: criterion.alpha=1."),
    ] = None,
    subset: Annotated[
        float | None, typer.Option(help="Pictures a class, or a share below 1 of every class.")
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(help="Labelled folders (train/ and val/): kNN and linear probe on the way."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=0, help="Data loading processes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result on stdout.")] = False,
) -> None:
    """Train a backbone without labels; a stopped run goes on with the same command."""
    from vicregl_bench.engine.settings import parse_overrides

    overrides = parse_overrides(settings or [])
    if subset is not None:
        overrides["data.subset"] = subset
    first = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    with StderrReporter(quiet=not first) as reporter, contextlib.redirect_stdout(sys.stderr):
        from pretrain.recipe import load_recipe
        from pretrain.train import PretrainRequest
        from pretrain.train import pretrain as run

        chosen = load_recipe(recipe, overrides)
        outcome = run(
            PretrainRequest(
                recipe=chosen,
                data=data,
                out=out,
                probe=probe,
                device=device,
                workers=workers,
                command=shlex.join(["vicregl-bench", *sys.argv[1:]]),
            ),
            reporter,
        )
        if outcome.skipped:
            reporter.warn(f"this run is finished already: {outcome.out}")
    if first:
        _report(outcome, as_json)


def _report(outcome: Any, as_json: bool) -> None:
    from vicregl_bench.cli.output import print_json, print_text

    state = outcome.state
    if as_json:
        run = state.model_dump(mode="json")
        print_json({"out": str(outcome.out), "backbone": str(outcome.backbone), **run})
        return
    print_text(
        f"{state.steps} steps over {state.pictures} pictures in {state.wall_s:.0f} s, "
        f"loss {state.last.get('loss', float('nan')):.3f}"
    )
    for when, scores in (("start", state.probe_start), ("end", state.probe_end)):
        if scores is not None:
            print_text(f"probe at the {when}: kNN {scores.knn:.1f} %, linear {scores.linear:.1f} %")
    print_text(f"backbone: {outcome.backbone}")
    print_text(f"judge it: vicregl-bench run --ckpt {outcome.backbone} --task voc_linear ...")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(pretrain)
