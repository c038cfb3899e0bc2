"""What one run of a fine-tuned task leaves for the record, in one file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vicregl_bench.errors import RecordError
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records.arrays import read_arrays, write_arrays
from vicregl_bench.tasks.measured import Scores
from vicregl_bench.tasks.outcome import Outcome


@dataclass(frozen=True)
class RunResult:
    """One point of the grid and seed.

    Attributes:
        head: the point and seed.
        diverged_at: iteration at which the loss stopped being finite, -1 where it never did.
        scores: of this one head.
    """

    head: HeadSpec
    diverged_at: int
    scores: Scores


def save_result(path: Path, result: RunResult) -> None:
    """Write a result whole or not at all.

    Raises:
        RecordError: no space or no permission.
    """
    arrays: dict[str, Any] = {
        "head": np.array(json.dumps([result.head.lr, result.head.seed, result.head.options])),
        "diverged_at": np.array(result.diverged_at),
        "notes": np.array(json.dumps(result.scores.notes[:1])),
    }
    for group, outcome in (("val", result.scores.val), ("held", result.scores.held)):
        if outcome is not None:
            arrays |= {f"{group}/{name}": array for name, array in outcome.to_arrays().items()}
    for kept in result.scores.kept:
        arrays |= {f"kept/{name}": labels for name, labels in kept.items()}
    write_arrays(path, arrays)


def load_result(path: Path, head: HeadSpec, kind: type[Outcome]) -> RunResult:
    """Read the result of a point of the grid and seed.

    Args:
        path: of the file.
        head: which is expected.
        kind: of the outcomes.

    Raises:
        FileNotFoundError: no such file.
        RecordError: the file is damaged, no result, or that of another head.
    """
    arrays = read_arrays(path)
    try:
        lr, seed, options = json.loads(str(arrays["head"]))
        found = HeadSpec(lr, seed, tuple((str(name), value) for name, value in options))
        diverged_at = int(arrays["diverged_at"])
        # files of before notes were kept have none
        notes = tuple(map(tuple, json.loads(str(arrays.get("notes", "[]")))))
        val, held = (
            kind.from_arrays(group) if (group := _group(arrays, name)) else None
            for name in ("val/", "held/")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path} is no result of a run") from error
    if found != head:
        raise RecordError(f"{path} is of {found}")
    return RunResult(found, diverged_at, Scores(val, held, (_group(arrays, "kept/"),), notes))


def _group(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
