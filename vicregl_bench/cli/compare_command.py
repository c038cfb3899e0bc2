"""`vicregl-bench compare`: the difference of two records, and whether it is real."""

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicregl_bench.cli.output import print_json, print_text
from vicregl_bench.cli.records_options import require_one_form
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.records.metrics import metric_title

if TYPE_CHECKING:
    from vicregl_bench.records import Record
    from vicregl_bench.tasks.compare import ClassDifference, Comparison
    from vicregl_bench.tasks.paired import Paired

_MARK, _STRONG = "*", "**"
_LEAST_P = 1e-3  # what 1,000 draws can tell


class _Format(StrEnum):
    markdown = "markdown"
    csv = "csv"


def compare(
    a: Annotated[Path, typer.Argument(metavar="A.json", help="File of a record.")],
    b: Annotated[
        Path, typer.Argument(metavar="B.json", help="Of another of the same task and pictures.")
    ],
    metric: Annotated[
        str | None, typer.Option(help="Another than the task's own, such as pixel_accuracy.")
    ] = None,
    form: Annotated[_Format, typer.Option("--format")] = _Format.markdown,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Compare two records of one task: the difference, by class too, and whether it is real.

    Both are scored on the same reweighted val pictures (paired bootstrap). A difference is called
    real where its 95 % interval over pictures excludes 0, and so does the one over pictures and
    seeds.
    """
    from vicregl_bench.tasks.compare import compare as compare_records

    require_one_form(as_json, form)
    with _quiet_imports():
        found = compare_records(a, b, metric)
    reporter = StderrReporter()
    for text in found.warnings:
        reporter.warn(text)
    if found.shared and form is _Format.csv:
        reporter.warn(_shared(found))
    if as_json:
        print_json(_tree(found))
    elif form is _Format.csv:
        print_text(_csv(found))
    else:
        print_text(_markdown(found))


@contextlib.contextmanager
def _quiet_imports() -> Iterator[None]:
    """Without what mmdet, which records of detection need, prints as it is imported."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _side(record: "Record", score: float, seeds: tuple[float, ...]) -> dict[str, Any]:
    spread = math.fsum((one - score) ** 2 for one in seeds) / len(seeds)
    return {
        "checkpoint": record.checkpoint.name,
        "method": record.checkpoint.method,
        "backbone": record.checkpoint.arch,
        "key": record.key,
        "score": round(score, 4),
        "std": round(math.sqrt(spread), 4),
        "seeds": len(seeds),
    }


def _numbers(one: "Paired") -> dict[str, Any]:
    values = {
        "a": one.a,
        "b": one.b,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "b_above_a": one.above,
        "p": max(one.p, _LEAST_P),
    }
    # a "-0.0" is no number for people
    rounded = {name: round(value, 4) + 0.0 for name, value in values.items()}
    return rounded | {"pictures": one.pictures, "excludes_zero": one.excludes_zero}


def _class_numbers(one: "ClassDifference") -> dict[str, Any]:
    if one.paired is None:
        return {"class": one.name, "pictures": one.pictures, "difference": None}
    numbers = _numbers(one.paired)
    if not one.tested:
        numbers |= {"low": None, "high": None, "b_above_a": None, "p": None}
    return {
        "class": one.name,
        **numbers,
        "significant": one.marked,
        "survives_holm": one.survives,
    }


def _tree(found: "Comparison") -> dict[str, Any]:
    seeded = found.seeded
    return {
        "task": found.a.task.name,
        "version": found.a.task.version,
        "metric": found.metric,
        "a": _side(found.a, found.whole.a, found.seeds_a),
        "b": _side(found.b, found.whole.b, found.seeds_b),
        "real": found.real,
        "verdict": found.verdict,
        "overall": _numbers(found.whole),
        "with_seeds": None if seeded is None else [round(end, 4) for end in seeded],
        "classes": [_class_numbers(one) for one in found.classes],
        "classes_tested": found.tested,
        "expected_by_chance": round(found.by_chance, 2),
        "both_deviate": list(found.shared),
        "warnings": list(found.warnings),
    }


def _csv(found: "Comparison") -> str:
    """A row for all pictures, whose class is empty, and one a class."""
    import pandas as pd

    whole = {"class": "", **_numbers(found.whole)}
    frame = pd.DataFrame([whole, *(_class_numbers(one) for one in found.classes)])
    return str(frame.to_csv(index=False)).rstrip("\n")


def _markdown(found: "Comparison") -> str:
    from vicregl_bench.tables.frames import spread_text

    title = metric_title(found.metric)
    sides = []
    for letter, record, score, seeds in (
        ("A", found.a, found.whole.a, found.seeds_a),
        ("B", found.b, found.whole.b, found.seeds_b),
    ):
        side = _side(record, score, seeds)
        sides.append(
            {
                "": letter,
                "checkpoint": side["checkpoint"],
                "method": side["method"],
                "backbone": side["backbone"],
                "profile": record.task.profile,
                "seeds": str(len(seeds)),
                title: spread_text(score, side["std"] if len(seeds) > 1 else None, 2),
            }
        )
    task = found.a.task
    parts = [
        _table(f"{task.title}: {task.name} v{task.version}, {title} in percent", sides),
        found.verdict[0].upper() + found.verdict[1:] + ".",
        f"In {100 * found.whole.above:.1f} % of 1,000 reweightings of the pictures B is above A.",
    ]
    if found.shared:
        text = _shared(found)
        parts.append(f"{text[0].upper()}{text[1:]}.")
    if found.classes:
        parts += [_table("By class", [_row(one) for one in found.classes]), _footnote(found)]
    return "\n\n".join(parts)


def _shared(found: "Comparison") -> str:
    return f"both deviate from their protocol: {'; '.join(found.shared)}"


def _table(caption: str, rows: Sequence[dict[str, str]]) -> str:
    from vicregl_bench.tables.rendering import Grid, RowGroup, render, text_cell

    cells = tuple(tuple(map(text_cell, row.values())) for row in rows)
    headings = tuple((name,) for name in rows[0])
    return render(Grid(caption, headings, 1, (RowGroup("", cells),)), "markdown")


def _row(one: "ClassDifference") -> dict[str, str]:
    from vicregl_bench.tables.frames import number_text

    row = {"class": one.name, "A": "–", "B": "–", "B − A": "–", "95 %": "–"}
    if one.paired is not None:
        paired = one.paired
        mark = (_STRONG if one.survives else _MARK) if one.marked else ""
        row |= {
            "A": number_text(paired.a, 1),
            "B": number_text(paired.b, 1),
            "B − A": number_text(paired.difference, 1, "+") + (f" {mark}" if mark else ""),
        }
        if one.tested:
            row["95 %"] = f"{number_text(paired.low, 1)} to {number_text(paired.high, 1)}"
    return row | {"pictures": str(one.pictures)}


def _footnote(found: "Comparison") -> str:
    from vicregl_bench.tasks.paired import MIN_PICTURES

    marked = sum(one.marked for one in found.classes)
    strong = sum(one.survives for one in found.classes)
    tested = f"{found.tested} class" if found.tested == 1 else f"{found.tested} classes"
    tests = "1 test" if found.tested == 1 else f"{found.tested} tests"
    chance = f"{round(found.by_chance, 2):g}"
    lines = ["Intervals of classes are over pictures alone."]
    if found.tested:
        lines += [
            f"{_MARK} 0 is outside and p by Student's t at most 5 %: {marked} of {tested} tested, "
            f"where {chance} would be expected by chance if nothing differed.",
            f"{_STRONG} also after Holm's correction for {tests}: {strong}.",
        ]
    few = sum(one.paired is not None and not one.tested for one in found.classes)
    if few:
        lines.append(f"Not tested, in fewer than {MIN_PICTURES} pictures: {few}.")
    missing = sum(one.paired is None for one in found.classes)
    if missing:
        lines.append(f"Without a score in A or B (–): {missing}.")
    return " ".join(lines)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(compare)
