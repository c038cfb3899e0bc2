"""What the page shows, as plain data: leaderboard, runs, the alpha trade-off, every record."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicregl_bench.records.collection import Entry
from vicregl_bench.records.metrics import metric_title
from vicregl_bench.records.schema import HeadResult, Record
from vicregl_bench.tables.columns import Column
from vicregl_bench.tables.frames import options_text, point_text
from vicregl_bench.tables.leaderboard import Row, finite_best, leaderboard
from vicregl_bench.tables.named import Naming
from vicregl_bench.tables.published import published

# metrics of whole pictures; all others are dense
_CLASSIFICATION = ("top1", "top5", "mean_per_class", "map", "map_area")


@dataclass(frozen=True)
class Contents:
    """The page's data; every number is finite or None, no text is escaped.

    Attributes:
        runs: one a record, in the order of the entries.
        columns: of the leaderboard: one a protocol, version, profile, preset, selection and data.
        rows: of the leaderboard, with `cells`: index of a column -> run and rank.
        published: VICRegL's points of the trade-off over alpha, with `scores` by protocol.
        details: one JSON text a run: `record`, the whole record, and `curve`, its grid.
    """

    runs: tuple[dict[str, Any], ...]
    columns: tuple[dict[str, Any], ...]
    rows: tuple[dict[str, Any], ...]
    published: tuple[dict[str, Any], ...]
    details: tuple[str, ...]


def page_contents(entries: Sequence[Entry], naming: Naming | None = None) -> Contents:
    """Put records into the form that the page shows.

    Args:
        entries: records in their places, interrupted ones too: they are listed among the runs, but
            are no part of the leaderboard.
        naming: what is said of weights that no file tells. Without a word of it, alpha is the
            card's, where that has one.

    Raises:
        ConfigError: none of the records is finished.
        RecordError: the published numbers are missing or damaged.
    """
    board = leaderboard(entries, naming=naming)
    placed = {cell.entry.path: (row, cell) for row in board.rows for cell in row.cells.values()}
    runs = tuple(
        _run(entry, placed[entry.path][0].checkpoint, placed[entry.path][1].entry.marks, naming)
        if entry.path in placed
        else _run(entry, entry.record.checkpoint.name, entry.marks, naming)
        for entry in entries
    )
    order = {entry.path: index for index, entry in enumerate(entries)}
    columns = {column: index for index, column in enumerate(board.titles)}
    return Contents(
        runs=runs,
        columns=tuple(_column(column, title) for column, title in board.titles.items()),
        rows=tuple(_row(row, columns, order, runs) for row in board.rows),
        published=_published_points(),
        details=tuple(_details(entry.record) for entry in entries),
    )


def _run(entry: Entry, name: str, marks: Sequence[str], naming: Naming | None) -> dict[str, Any]:
    record = entry.record
    task, checkpoint, data, best = record.task, record.checkpoint, record.data, finite_best(record)
    named = naming(record) if naming else None
    return {
        "checkpoint": name,
        "method": checkpoint.method,
        "backbone": checkpoint.arch,
        "weights": checkpoint.weights_sha256[:8],
        "alpha": _alpha(record, named.alpha if named else None),
        "task": task.name,
        "version": task.version,
        "profile": task.profile,
        "preset": task.preset or "",
        "data": f"{data.variant} ({data.train} + {data.val})",
        "fingerprint": data.fingerprint[:8],
        "metric": metric_title(task.metric),
        "status": record.status,
        "score": _number(best.score if best else None),
        "std": _number(best.std if best and best.seeds > 1 else None),
        "low": _number(best.interval[0] if best else None),
        "high": _number(best.interval[1] if best else None),
        "lr": _number(best.lr if best else None),
        "options": options_text(best) if best else "",
        "seeds": best.seeds if best else None,
        "deviations": list(record.deviations),
        "marks": list(marks),
        "device": record.environment.device,
        "created": record.created,
        "key": record.key[:12],
        "file": entry.path.name,
    }


def _alpha(record: Record, named: float | None) -> float | None:
    given = record.checkpoint.card.get("alpha") if named is None else named
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return _number(given)


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _column(column: Column, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "task": column.task,
        "profile": column.profile,
        "data": f"{column.variant} ({column.train} + {column.val})",
        "metric": metric_title(column.metric),
        "description": column.description,
        "dense": column.metric not in _CLASSIFICATION,
    }


def _row(
    row: Row, columns: Mapping[Column, int], order: Mapping[Path, int], runs: Sequence[Any]
) -> dict[str, Any]:
    cells = {
        columns[column]: {"run": order[cell.entry.path], "rank": cell.rank}
        for column, cell in row.cells.items()
    }
    alphas = {runs[cell["run"]]["alpha"] for cell in cells.values()} - {None}
    return {
        "checkpoint": row.checkpoint,
        "method": row.method,
        "backbone": row.backbone,
        "weights": row.weights_sha256[:8],
        "alpha": alphas.pop() if len(alphas) == 1 else None,
        "mean_rank": row.mean_rank,
        "cells": cells,
    }


def _published_points() -> tuple[dict[str, Any], ...]:
    """Tables 1 and 2 of VICRegL by backbone and alpha; VICReg is their alpha 1."""
    frame = published("vicregl")
    frame = frame[frame["table"].isin(["1", "2"]) & (frame["protocol"] != "")]
    vicreg = frame["method"] == "VICReg"
    frame = frame.assign(alpha=frame["alpha"].mask(vicreg, 1.0))
    points: dict[tuple[str, float], dict[str, float]] = {}
    for number in frame.dropna(subset="alpha").to_dict("records"):
        scores = points.setdefault((number["backbone"], number["alpha"]), {})
        scores[number["protocol"]] = number["value"]
    return tuple(
        {"backbone": backbone, "alpha": alpha, "scores": scores}
        for (backbone, alpha), scores in sorted(points.items())
    )


def _details(record: Record) -> str:
    text = json.dumps(_curve(record), ensure_ascii=False, allow_nan=False)
    return f'{{"curve":{text},"record":{record.model_dump_json()}}}'


def _curve(record: Record) -> list[dict[str, Any]]:
    """As `frames.learning_rate_curve`, which takes a hundred times as long: a page has many."""
    points: dict[tuple[float | None, str], list[HeadResult]] = {}
    for result in record.results:
        points.setdefault((_number(result.lr), options_text(result)), []).append(result)
    best = None if record.best is None else point_text(record.best)
    curve = []
    for (lr, options), seeds in points.items():
        scores = [score for one in seeds if (score := _number(one.score)) is not None]
        curve.append(
            {
                "point": point_text(seeds[0]),
                "lr": lr,
                "options": options,
                "score": statistics.fmean(scores) if scores else None,
                "std": statistics.pstdev(scores) if scores else None,
                "diverged": len(seeds) - len(scores),
                "best": point_text(seeds[0]) == best,
            }
        )
    return sorted(
        curve, key=lambda point: -math.inf if point["lr"] is None else point["lr"], reverse=True
    )
