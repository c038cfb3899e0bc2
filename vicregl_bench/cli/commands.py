"""The commands that report: ls, show, table, inspect."""

import contextlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from vicregl_bench.cli.output import print_json, print_record, print_text
from vicregl_bench.errors import CheckpointError, ConfigError

_RECORDS = Path("runs")
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Records = Annotated[Path, typer.Option("--records", help="Folder of records.")]


class _Format(StrEnum):
    markdown = "markdown"
    csv = "csv"
    latex = "latex"


def _print_rows(columns: list[str], rows: list[list[str]]) -> None:
    table = Table(*columns, show_edge=False)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 140
    Console(highlight=False, width=width, markup=False).print(table)


ls = typer.Typer(help="List tasks, recipes or records.", no_args_is_help=True)


@ls.command("tasks")
def ls_tasks(as_json: Json = False) -> None:
    """List the tasks with their protocol version, source and cost."""
    from vicregl_bench.tasks.protocol import PROFILES, protocol_info, task_names

    infos = [protocol_info(name) for name in task_names()]
    if as_json:
        print_json([info.model_dump(mode="json") for info in infos])
        return
    _print_rows(
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


@ls.command("recipes")
def ls_recipes(as_json: Json = False) -> None:
    """List the pretraining recipes with their source."""
    from pretrain.recipe import load_recipe, recipe_names

    recipes = [load_recipe(name) for name in recipe_names()]
    if as_json:
        print_json([recipe.model_dump(mode="json") for recipe in recipes])
        return
    _print_rows(
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

    found = read_records(records)
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
                    "miou": record.best.miou_mean if record.best else None,
                    "created": record.created,
                }
                for record in found
            ]
        )
        return
    _print_rows(
        ["checkpoint", "task", "profile", "status", "best mIoU", "made", "file"],
        [
            [
                record.checkpoint.name,
                f"{record.task.name} v{record.task.version}",
                record.task.profile,
                record.status,
                f"{record.best.miou_mean:.2f}" if record.best else "–",
                record.created[:16],
                record.file_name,
            ]
            for record in found
        ],
    )


def show(
    record: Annotated[Path, typer.Argument(help="File of a record.")], as_json: Json = False
) -> None:
    """Show a record: what was run, the learning-rate curve, the best."""
    from vicregl_bench.records import read_record

    found = read_record(record)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_record(found)


def table(
    number: Annotated[
        str | None, typer.Argument(help="Only the protocols of this table of the paper.")
    ] = None,
    records: Records = _RECORDS,
    form: Annotated[_Format, typer.Option("--format")] = _Format.markdown,
    as_json: Json = False,
) -> None:
    """Put the records of a folder into one table: checkpoints by protocols.

    CSV and JSON have one row a record and plain numbers, for programs.
    """
    from vicregl_bench.records import read_records
    from vicregl_bench.tables import frames

    found = read_records(records)
    if as_json:
        rows = frames.measurements(found, number)
        print_text(rows.to_json(orient="records", force_ascii=False, indent=2))
    elif form is _Format.csv:
        print_text(frames.measurements(found, number).to_csv(index=False).rstrip("\n"))
    else:
        frame = frames.leaderboard(found, number)
        notes = frames.explain_deviations(found, number)
        if form is _Format.latex:
            print_text("\n".join([frames.render_latex(frame), *(f"% {note}" for note in notes)]))
        else:
            text = frame.to_markdown(index=False, disable_numparse=True)
            print_text("\n\n".join([text, *notes]))


def inspect(
    ckpt: Annotated[str, typer.Option(help="Checkpoint file.")],
    arch: Annotated[str | None, typer.Option(help="Architecture to hold it against.")] = None,
    method: Annotated[str | None, typer.Option(help="Reader of the checkpoint.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Key prefix of the backbone.")] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle")] = False,
    as_json: Json = False,
) -> None:
    """Say what is in a checkpoint file, which reader takes it, and what is covered."""
    with contextlib.redirect_stdout(sys.stderr):
        report = _inspect(ckpt, arch, method, prefix, trust_pickle)
    if as_json:
        print_json(report)
    else:
        print_text(_inspection_text(report))
    if "error" in report:
        raise CheckpointError(report["error"])


def _inspect(
    ckpt: str, arch: str | None, method: str | None, prefix: str | None, trust_pickle: bool
) -> dict[str, Any]:
    from vicregl_bench.backbones.source import RANDOM_PREFIX, read_backbone
    from vicregl_bench.checkpoints import read_file, summarise_file

    if ckpt.startswith(RANDOM_PREFIX):
        raise ConfigError("inspect takes a file; random weights have nothing to inspect")
    contents = summarise_file(read_file(Path(ckpt), trust_pickle=trust_pickle)).to_dict()
    try:
        source = read_backbone(
            ckpt, arch=arch, method=method, prefix=prefix, trust_pickle=trust_pickle
        )
    except CheckpointError as error:
        return {"file": ckpt, "contents": contents, "error": str(error)}
    return {
        "file": ckpt,
        "contents": contents,
        "method": source.card.method,
        "arch": source.arch,
        "weights_sha256": source.weights_sha256,
        "file_sha256": source.file_sha256,
        "card": source.card.to_dict(),
        "coverage": source.coverage,
        "notes": list(source.notes),
    }


def _inspection_text(report: dict[str, Any]) -> str:
    if "error" in report:
        return "\n".join([report["file"], "", "contents", *_tree(report["contents"])])
    lines = [
        f"{report['file']}: {report['method']}, {report['arch']}",
        f"weights sha256 {report['weights_sha256']}",
        f"file sha256    {report['file_sha256']}",
        "",
        "contents",
        *_tree(report["contents"]),
        "",
        "coverage of the backbone",
        *_tree(report["coverage"]),
        "",
        "card",
        *_tree(report["card"]),
    ]
    return "\n".join(lines + [f"note: {note}" for note in report["notes"]])


def _tree(value: Any, indent: str = "  ") -> list[str]:
    if isinstance(value, dict):
        lines: list[str] = []
        for key, item in value.items():
            if isinstance(item, dict) or (isinstance(item, list) and item and _is_tree(item[0])):
                lines += [f"{indent}{key}", *_tree(item, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {_short(item)}")
        return lines
    if isinstance(value, list):
        return [line for item in value for line in _tree(item, indent)]
    return [f"{indent}{value}"]


def _is_tree(item: Any) -> bool:
    return isinstance(item, dict | list)


def _short(item: Any, most: int = 6) -> str:
    if not isinstance(item, list):
        return str(item)
    text = ", ".join(map(str, item[:most]))
    return f"{len(item)}: {text}, ..." if len(item) > most else text or "none"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(ls, name="ls")
    app.command()(show)
    app.command()(table)
    app.command()(inspect)
