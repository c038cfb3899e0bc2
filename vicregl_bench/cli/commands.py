"""The commands that report: ls, and `show` of its own module."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vicregl_bench.cli.output import print_json, print_rows, print_text
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.cli.show_command import show

_RECORDS = Path("runs")
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Records = Annotated[Path, typer.Option("--records", help="Folder of records.")]


ls = typer.Typer(
    help="List tasks, their settings, methods, architectures, recipes or records.",
    no_args_is_help=True,
)


@ls.command("tasks")
def ls_tasks(as_json: Json = False) -> None:
    """List the tasks with their protocol version, source and cost."""
    from vicregl_bench.tasks.protocol import PROFILES, protocol_info, task_names

    infos = [protocol_info(name) for name in task_names()]
    if as_json:
        print_json([info.model_dump(mode="json") for info in infos])
        return
    print_rows(
        ["task", "version", "profiles", "tables", "what", "cost"],
        [
            [
                info.name,
                str(info.version),
                ", ".join(PROFILES),
                ", ".join(info.tables),
                info.title,
                info.cost,
            ]
            for info in infos
        ],
    )


@ls.command("settings")
def ls_settings(
    task: Annotated[str, typer.Argument(help="Task; `vicregl-bench ls tasks` lists them.")],
    profile: Annotated[str, typer.Option(help="paper or ci.")] = "paper",
    arch: Annotated[
        str, typer.Option(help="Of the backbone: grid, optimiser and features follow from it.")
    ] = "resnet50",
    preset: Annotated[str | None, typer.Option(help="Of a task with several.")] = None,
    as_json: Json = False,
) -> None:
    """List the settings of a task, each as `run --set` takes it, and those it leaves open."""
    from vicregl_bench.backbones.zoo import find_architecture
    from vicregl_bench.engine.settings import flatten
    from vicregl_bench.tasks.protocol import load_task

    architecture = find_architecture(arch)
    chosen = load_task(
        task, profile, family=architecture.family, arch=architecture.name, preset=preset
    )
    values = flatten(chosen.settings.dump())
    if as_json:
        print_json(values)
        return
    unset = [name for name in chosen.settings.optional if name not in values]
    rows = [[name, json.dumps(value)] for name, value in values.items()]
    print_rows(["setting", "value"], rows + [[name, "–"] for name in unset])


@ls.command("methods")
def ls_methods(as_json: Json = False) -> None:
    """List the methods whose checkpoints are read."""
    from vicregl_bench.checkpoints import READERS

    if as_json:
        print_json(
            [
                {
                    "files": reader.files,
                    "architectures": reader.architectures,
                    "verified": reader.verified,
                    **reader.card.to_dict(),
                }
                for reader in READERS
            ]
        )
        return
    print_rows(
        ["method", "title", "architectures", "files", "tried on"],
        [
            [
                reader.card.method,
                reader.card.title,
                reader.architectures,
                reader.files,
                reader.verified,
            ]
            for reader in READERS
        ],
    )


@ls.command("architectures")
def ls_architectures(as_json: Json = False) -> None:
    """List the backbones that can be evaluated, with the widths and strides of their maps."""
    from vicregl_bench.backbones.zoo import architecture_names, find_architecture

    found = [find_architecture(name) for name in architecture_names()]
    if as_json:
        print_json([asdict(architecture) for architecture in found])
        return
    print_rows(
        ["architecture", "family", "widths", "strides", "maps of a linear segmentation head"],
        [
            [
                architecture.name,
                architecture.family,
                ", ".join(map(str, architecture.widths)),
                ", ".join(map(str, architecture.strides)),
                ", ".join(str(index + 1) for index in architecture.segmentation),
            ]
            for architecture in found
        ],
    )


@ls.command("recipes")
def ls_recipes(as_json: Json = False) -> None:
    """List the pretraining recipes with their source."""
    from pretrain.recipe import load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    if as_json:
        print_json([recipe.model_dump(mode="json") for recipe in recipes])
        return
    print_rows(
        ["recipe", "backbone", "views", "batch", "epochs", "optimiser", "source"],
        [
            [
                recipe.recipe.name,
                recipe.model.backbone,
                _views_text(recipe.views),
                str(recipe.schedule.batch_size),
                str(recipe.schedule.epochs),
                recipe.optimizer.type,
                recipe.recipe.source,
            ]
            for recipe in recipes
        ],
    )


def _views_text(views: Any) -> str:
    small = f" + {views.small_count} x {views.small_size}" if views.small_count else ""
    return f"2 x {views.large_size}{small}"


@ls.command("records")
def ls_records(records: Records = _RECORDS, as_json: Json = False) -> None:
    """List the records of a folder."""
    from vicregl_bench.records import read_records
    from vicregl_bench.records.metrics import metric_title

    found = read_records(records, StderrReporter().warn)
    if as_json:
        print_json(
            [
                {
                    "file": str(records / record.file_name),
                    "checkpoint": record.checkpoint.name,
                    "task": record.task.name,
                    "version": record.task.version,
                    "profile": record.task.profile,
                    "status": record.status,
                    "metric": record.task.metric,
                    "score": record.best.score if record.best else None,
                    "created": record.created,
                }
                for record in found
            ]
        )
        return
    if not found:
        print_text(f"no records in {records}; `vicregl-bench run` makes one")
        return
    print_rows(
        ["checkpoint", "task", "profile", "status", "best", "made", "file"],
        [
            [
                record.checkpoint.name,
                f"{record.task.name} v{record.task.version}",
                record.task.profile,
                record.status,
                f"{metric_title(record.task.metric)} {record.best.score:.2f}"
                if record.best
                else "–",
                record.created[:16],
                record.file_name,
            ]
            for record in found
        ],
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(ls, name="ls")
    app.command()(show)
