"""What the page shows, as plain data: leaderboard, runs, the alpha trade-off, every record."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vicregl_bench.page.labels import apart
from vicregl_bench.records.collection import Entry
from vicregl_bench.records.metrics import metric_title
from vicregl_bench.records.schema import Record
from vicregl_bench.tables.alpha_points import TABLES, published_points
from vicregl_bench.tables.columns import Column
from vicregl_bench.tables.facts import Facts, Identity, identity, not_comparable, weights_facts
from vicregl_bench.tables.frames import curve_points, options_text, point_text
from vicregl_bench.tables.layout import layout
from vicregl_bench.tables.leaderboard import Row, leaderboard
from vicregl_bench.tables.named import Naming

# metrics of whole pictures; all others are dense
_CLASSIFICATION = ("top1", "top5", "mean_per_class", "map", "map_area")


@dataclass(frozen=True)
class Contents:
    """The page's data; every number is finite or None, no text is escaped.

    Attributes:
        runs: one a record, in the order of the entries; `unlike` says why its score is not
            comparable with the paper's, `apart` what tells it from others that are called so.
        columns: of the leaderboard: one a protocol, version, profile, preset, selection and data.
        rows: of the leaderboard, with `cells`: index of a column -> run, rank (None where it is not
            ranked), and `further`: what a row of further runs of the same weights differs in, else
            empty.
        published: VICRegL's points of the trade-off over alpha, as figure 2 has them.
        printed: task -> metric of what `published` has of it.
        details: one JSON text a run: `record`, the whole record, and `curve`, its grid.
    """

    runs: tuple[dict[str, Any], ...]
    columns: tuple[dict[str, Any], ...]
    rows: tuple[dict[str, Any], ...]
    published: tuple[dict[str, Any], ...]
    printed: dict[str, str]
    details: tuple[str, ...]


def page_contents(entries: Sequence[Entry], naming: Naming | None = None) -> Contents:
    """Put records into the form that the page shows.

    Args:
        entries: records in their places, interrupted ones too: they are listed among the runs, but
            are no part of the leaderboard.
        naming: what is said of weights that no file tells. Without a word of it, alpha is the
            card's, where that has one, and of VICReg 1.

    Raises:
        ConfigError: none of the records is finished.
        RecordError: the published numbers are missing or damaged.
    """
    board = leaderboard(entries, naming=naming)
    placed = {cell.entry.path: (row, cell) for row in board.rows for cell in row.cells.values()}
    facts = weights_facts([entry.record for entry in entries], naming)
    runs = []
    for entry in entries:
        about = facts[identity(entry.record)]
        if entry.path in placed:
            row, cell = placed[entry.path]
            runs.append(_run(cell.entry, row.checkpoint, about.alpha))
        else:
            runs.append(_run(entry, about.name, about.alpha))
    records = [entry.record for entry in entries]
    names = [facts[identity(record)].name for record in records]
    for run, text in zip(runs, apart(records, names), strict=True):
        run["apart"] = text
    order = {entry.path: index for index, entry in enumerate(entries)}
    columns = {column: index for index, column in enumerate(board.titles)}
    return Contents(
        runs=tuple(runs),
        columns=tuple(_column(column, title) for column, title in board.titles.items()),
        rows=tuple(_row(row, columns, order, facts, runs) for row in board.rows),
        published=tuple(map(asdict, published_points())),
        printed={
            column.protocol: metric_title(column.metric)
            for number in TABLES
            for column in layout(number).columns
            if column.protocol
        },
        details=tuple(_details(entry.record) for entry in entries),
    )


def _run(entry: Entry, name: str, alpha: float | None) -> dict[str, Any]:
    record = entry.record
    task, checkpoint, data, best = record.task, record.checkpoint, record.data, record.best
    return {
        "checkpoint": name,
        "method": checkpoint.method,
        "backbone": checkpoint.arch,
        "weights": checkpoint.weights_sha256[:8],
        "alpha": alpha,
        "task": task.name,
        "version": task.version,
        "profile": task.profile,
        "preset": task.preset or "",
        "select": task.select,
        "precision": record.environment.precision,
        "data": f"{data.variant} ({data.train} + {data.val})",
        "fingerprint": data.fingerprint[:8],
        "metric": metric_title(task.metric),
        "status": record.status,
        "score": best.score if best else None,
        "std": best.std if best and best.seeds > 1 else None,
        "low": best.interval[0] if best else None,
        "high": best.interval[1] if best else None,
        "lr": best.lr if best else None,
        "options": options_text(best) if best else "",
        "seeds": best.seeds if best else None,
        "deviations": list(record.deviations),
        "unlike": not_comparable(record),
        "marks": list(entry.marks),
        "device": record.environment.device,
        "created": record.created,
        "key": record.key[:12],
        "file": entry.path.name,
    }


def _column(column: Column, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "task": column.task,
        "version": column.version,
        "profile": column.profile,
        "preset": column.preset,
        "data": f"{column.variant} ({column.train} + {column.val})",
        "metric": metric_title(column.metric),
        "description": column.description,
        "dense": column.metric not in _CLASSIFICATION,
    }


def _row(
    row: Row,
    columns: Mapping[Column, int],
    order: Mapping[Path, int],
    facts: Mapping[Identity, Facts],
    runs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    cells = {
        columns[column]: {"run": order[cell.entry.path], "rank": cell.rank}
        for column, cell in row.cells.items()
    }
    own = [runs[order[cell.entry.path]]["apart"] for cell in row.cells.values()] if row.turn else []
    return {
        "checkpoint": row.checkpoint,
        "further": "; ".join(dict.fromkeys(filter(None, own))),
        "method": row.method,
        "backbone": row.backbone,
        "weights": row.weights_sha256[:8],
        "alpha": facts[row.weights_sha256, row.backbone, row.method].alpha,
        "cells": cells,
    }


def _details(record: Record) -> str:
    text = json.dumps(_curve(record), ensure_ascii=False, allow_nan=False)
    return f'{{"curve":{text},"record":{record.model_dump_json()}}}'


def _curve(record: Record) -> list[dict[str, Any]]:
    best = None if record.best is None else point_text(record.best)
    names = ("point", "lr", "options", "score", "std", "diverged")
    return [
        {name: point[name] for name in names} | {"best": point["point"] == best}
        for point in curve_points(record)
    ]
