"""The baseline of a suite: the scores that were accepted, in one JSON file to be versioned."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from vicregl_bench.atomic import write_atomic
from vicregl_bench.batch.yaml_file import first_problem
from vicregl_bench.engine.settings import Section, flatten
from vicregl_bench.errors import RecordError
from vicregl_bench.records import Record

BASELINE_VERSION: Literal[1] = 1
_DIGITS = 4  # of scores; a tolerance is never below 0.2 unless somebody asks for that
_PACKAGES = ("vicregl-bench", "torch")


class Accepted(Section):
    """What one row of a suite scored, and everything that makes two scores comparable.

    Scores are percentages, rounded to four decimals.

    Attributes:
        settings: of the task after profile and overrides, dotted key -> value.
        data: fingerprint of the pictures.
        std: population standard deviation over seeds.
        interval: 95 % bootstrap over val pictures.
        weights_sha256: over the tensors used.
        versions: of this package and of torch.
    """

    task: str
    version: int
    profile: str
    preset: str | None
    select: str
    metric: str
    precision: str
    settings: dict[str, Any]
    data: str
    score: float
    std: float
    seeds: int
    interval: tuple[float, float]
    checkpoint: str
    arch: str
    weights_sha256: str
    versions: dict[str, str]


class Baseline(Section):
    """Entries by the names of a suite's rows."""

    schema_version: Literal[1] = BASELINE_VERSION
    tasks: dict[str, Accepted] = Field(min_length=1)


def make_entry(record: Record) -> Accepted:
    """The entry of a finished record.

    Raises:
        RecordError: the record has no score.
    """
    task, checkpoint, best = record.task, record.checkpoint, record.best
    if best is None:
        raise RecordError(f"{record.file_name} has no score ({record.status})")
    versions = record.environment.versions
    return Accepted(
        task=task.name,
        version=task.version,
        profile=task.profile,
        preset=task.preset,
        select=task.select,
        metric=task.metric,
        precision=record.environment.precision,
        settings=flatten(task.settings),
        data=record.data.fingerprint,
        score=round(best.score, _DIGITS),
        std=round(best.std, _DIGITS),
        seeds=best.seeds,
        interval=(round(best.interval[0], _DIGITS), round(best.interval[1], _DIGITS)),
        checkpoint=checkpoint.name,
        arch=checkpoint.arch,
        weights_sha256=checkpoint.weights_sha256,
        versions={name: versions[name] for name in _PACKAGES if name in versions},
    )


def differences(measured: Accepted, baseline: Accepted) -> list[str]:
    """Why two entries cannot be compared, in words; empty where they can.

    Everything but weights, architecture and versions has to be the same: those may change, and what
    that does to the score is the question.
    """
    found = []
    for name in ("task", "version", "profile", "preset", "select", "metric", "precision"):
        new, old = getattr(measured, name), getattr(baseline, name)
        if new != old:
            title = "protocol version" if name == "version" else name
            found.append(f"{title} {_word(new)}, baseline {_word(old)}")
    if measured.data != baseline.data:
        found.append(f"other data ({measured.data[:8]}, baseline {baseline.data[:8]})")
    # another protocol brings other settings: they say nothing more
    if measured.task == baseline.task and measured.version == baseline.version:
        new_settings, old_settings = _plain(measured.settings), _plain(baseline.settings)
        for key in sorted(new_settings.keys() | old_settings.keys()):
            new, old = new_settings.get(key), old_settings.get(key)
            if new != old:
                found.append(f"{key} {_word(new)}, baseline {_word(old)}")
    return found


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As it is after a round trip through a file."""
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def read_baseline(path: Path) -> Baseline | None:
    """Read a baseline; None where there is no such file.

    Raises:
        RecordError: it cannot be read, is half-written, or of another version.
    """
    mend = "restore it from version control, or remove it and pass --update"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RecordError(f"cannot read baseline {path}: {reason}") from error
    try:
        tree = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise RecordError(f"baseline {path} is damaged or half-written{line}: {mend}") from error
    version = tree.get("schema_version") if isinstance(tree, dict) else None
    if version != BASELINE_VERSION:
        raise RecordError(
            f"{path} is no baseline that this version reads (schema_version {version!r}, not "
            f"{BASELINE_VERSION}): {mend}"
        )
    try:
        return Baseline.model_validate(tree)
    except ValidationError as error:
        raise RecordError(
            f"baseline {path} is not valid at {first_problem(error)}; {mend}"
        ) from None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline whole or not at all, with sorted keys: the same entries, the same bytes.

    Raises:
        RecordError: no space, no permission, or another error of the file system.
    """
    text = json.dumps(
        baseline.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False
    )
    try:
        write_atomic(path, (text + "\n").encode())
    except OSError as error:
        raise RecordError(f"cannot write baseline {path}: {error.strerror}") from error
