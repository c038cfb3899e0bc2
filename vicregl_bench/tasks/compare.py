"""Two records of one task on the same pictures: what differs, and whether that is real."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vicregl_bench.engine.settings import flatten
from vicregl_bench.errors import ConfigError, RecordError
from vicregl_bench.records import Record, read_record
from vicregl_bench.tasks.paired import (
    LEVEL,
    MIN_PICTURES,
    Paired,
    holm,
    pair,
    seed_variance,
    with_seeds,
)
from vicregl_bench.tasks.pictures_file import Measurement, read_measurement

_LOWER_IS_BETTER = frozenset({"distance_error"})
_NAMED = 5  # settings that a warning names
_MATTERS = 0.2  # points: the least that the project calls a difference


@dataclass(frozen=True)
class ClassDifference:
    """One class.

    Attributes:
        name: of the class.
        pictures: that it is in.
        paired: None where A or B has no score.
        survives: whether it is marked after Holm's correction over the classes tested too.
    """

    name: str
    pictures: int
    paired: Paired | None
    survives: bool = False

    @property
    def tested(self) -> bool:
        """Whether the pictures are enough for an interval."""
        return self.paired is not None and self.pictures >= MIN_PICTURES

    @property
    def marked(self) -> bool:
        """Whether the difference is more than chance at 5 % (`Paired.significant`)."""
        return self.paired is not None and self.paired.significant


@dataclass(frozen=True)
class Comparison:
    """B against A.

    Attributes:
        a: record A.
        b: record B.
        metric: compared, of `records.metrics`.
        seeds_a: score of each seed of A's best point.
        seeds_b: likewise.
        whole: the difference over all pictures.
        seeded: its 95 % interval over pictures and seeds; None where both have one seed.
        real: whether the difference is, see `is_real`.
        verdict: the same in words.
        classes: largest difference first, those without a score last.
        shared: deviations from the protocol that both have.
        warnings: what else differs between the two.
    """

    a: Record
    b: Record
    metric: str
    seeds_a: tuple[float, ...]
    seeds_b: tuple[float, ...]
    whole: Paired
    seeded: tuple[float, float] | None
    real: bool
    verdict: str
    classes: tuple[ClassDifference, ...]
    shared: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def tested(self) -> int:
        """Classes with pictures enough for an interval."""
        return sum(one.tested for one in self.classes)

    @property
    def by_chance(self) -> float:
        """Classes that would be marked if there were no difference at all."""
        return LEVEL * self.tested


def compare(a: Path, b: Path, metric: str | None = None) -> Comparison:
    """Compare two records of one task.

    Args:
        a: file of a record, with its `pictures_file` beside it.
        b: of the one that is compared with it.
        metric: another than the task's own, such as `pixel_accuracy`.

    Raises:
        RecordError: one cannot be read or has no score, both are the same file, they are of other
            tasks, versions, metrics, pictures or labels, or what is kept of the pictures is
            missing or damaged.
        ConfigError: no such metric is kept.
    """
    if a.exists() and b.exists() and a.samefile(b):
        raise RecordError(f"{a} and {b} are the same file: give two records")
    records = read_record(a), read_record(b)
    _require_same_task(*records)
    left, right = (read_measurement(path, one) for path, one in zip((a, b), records, strict=True))
    right = aligned(left, right)
    known = [name for name in left.outcome.metrics if name in right.outcome.metrics]
    if metric is not None and metric not in known:
        raise ConfigError(f"no {metric!r} of single pictures is kept: {', '.join(known)}")
    chosen = left.outcome.metrics[0] if metric is None else metric
    whole, by_class = pair((left.outcome, left.heads), (right.outcome, right.heads), chosen)
    seeds_a, seeds_b = (_by_seed(one, chosen) for one in (left, right))
    parts = seed_variance(seeds_a, seeds_b)
    seeded = with_seeds(whole, parts)
    real = is_real(whole, seeded)
    return Comparison(
        a=left.record,
        b=right.record,
        metric=chosen,
        seeds_a=seeds_a,
        seeds_b=seeds_b,
        whole=whole,
        seeded=seeded if parts else None,
        real=real,
        verdict=verdict(
            whole,
            seeded,
            several=bool(parts),
            seeded_task=_has_seeds(left.record),
            lower_is_better=chosen in _LOWER_IS_BETTER,
        ),
        classes=_differences(left, by_class),
        shared=tuple(text for text in left.record.deviations if text in right.record.deviations),
        warnings=tuple(_other_conditions(left.record, right.record)),
    )


def is_real(whole: Paired, seeded: tuple[float, float]) -> bool:
    """Whether a difference is real: more than these pictures and these seeds give by chance.

    It is where all of the following hold, each at 5 %:

    1. the paired bootstrap interval over pictures excludes 0, of `MIN_PICTURES` or more;
    2. so does the interval over pictures and seeds (`paired.with_seeds`), whose variance is the sum
       of the bootstrap's and of the two means' over their seeds. A difference that is large beside
       the pictures' chance but lies within the spread over seeds is not real, for another seed
       would turn it. With one seed each there is no such spread and this is Student's interval over
       the pictures, which makes up for the bootstrap's being narrow where pictures are few.

    The standard error is taken rather than the larger of the two deviations, which would not become
    surer with more seeds.

    The seeds of a record share the order of the data (one `run_seed`), so their spread is smaller
    than that of independent runs, and this says "real" more readily than those would. Nor does it
    ask whether a difference is large enough to matter: `verdict` tells of one below 0.2 points.
    """
    low, high = seeded
    return whole.excludes_zero and (low > 0 or high < 0)


def verdict(
    whole: Paired,
    seeded: tuple[float, float],
    *,
    several: bool,
    seeded_task: bool,
    lower_is_better: bool = False,
) -> str:
    """The difference in one sentence, and whether it is real.

    Args:
        whole: over all pictures.
        seeded: its interval over pictures and seeds.
        several: whether A or B has several seeds.
        seeded_task: whether the task has seeds at all.
        lower_is_better: of the metric.

    Returns:
        The sentence, with a clause where the difference is below 0.2 points.
    """
    ends = (whole.difference, whole.low, whole.high, *seeded)
    small = abs(whole.difference) < _MATTERS
    digits = 1 if max(map(abs, ends)) >= 1 and not small else 2

    def points(value: float, sign: str = "") -> str:
        return f"{round(value, digits) + 0.0:{sign}.{digits}f}"

    pictures = f"{whole.pictures} pictures"
    if not any(ends[:3]):
        return f"no difference: every one of {pictures} gives the same"
    over = f"95 % {points(whole.low)} to {points(whole.high)} over {pictures}"
    # around the difference, which the percentiles of the bootstrap need not be
    half = points((seeded[1] - seeded[0]) / 2)
    both = f"± {half} over pictures and seeds"
    none = f"no difference that these {pictures} can tell: {points(whole.difference, '+')} points"
    if whole.pictures < MIN_PICTURES:
        return f"{none} (fewer than {MIN_PICTURES} tell none)"
    if not whole.excludes_zero:
        return f"{none} ({over})"
    better = (whole.difference < 0) == lower_is_better
    direction = f"B is {'better' if better else 'worse'} by {points(abs(whole.difference))} points"
    little = f"; below {_MATTERS} points, too small to matter" if small else ""
    if is_real(whole, seeded):
        if several:
            return f"{direction} ({over}; {both}): real{little}"
        alone = " over pictures; of one seed each, the spread over seeds is not known"
        return f"{direction} ({over}): real{alone if seeded_task else ''}{little}"
    if several:
        beyond = f"but not beyond the spread over seeds ({both}): not real"
        return f"{direction} ({over}), {beyond}{little}"
    return f"{none} ({over}; ± {half} by Student's t)"


def aligned(a: Measurement, b: Measurement) -> Measurement:
    """B with its pictures in A's order.

    Raises:
        RecordError: they are of other pictures, classes or labels.
    """
    if a.classes != b.classes:
        raise RecordError(f"{a.path} and {b.path} are of other classes")
    names, others = a.outcome.names, b.outcome.names
    if names != others:
        missing, more = sorted(set(names) - set(others)), sorted(set(others) - set(names))
        if missing or more or len(names) != len(others):
            first = f", such as {(missing + more)[0]}" if missing or more else ""
            raise RecordError(
                f"{a.path} and {b.path} are of other val pictures: of {len(names)} and "
                f"{len(others)}, {len(missing)} are in the first alone and {len(more)} in the "
                f"second{first}"
            )
        if len(set(names)) < len(names):
            raise RecordError(
                f"{a.path} and {b.path} list pictures in another order, some of one name"
            )
        places = {name: i for i, name in enumerate(others)}
        b = replace(b, outcome=b.outcome.reordered([places[name] for name in names]))
    _require_same_truth(a, b)
    return b


def _require_same_truth(a: Measurement, b: Measurement) -> None:
    arrays, others = a.outcome.to_arrays([]), b.outcome.to_arrays([])
    for name in a.outcome.truth_arrays:
        one, other = arrays.get(name), others.get(name)
        if (one is None) != (other is None) or not np.array_equal(np.array(one), np.array(other)):
            raise RecordError(
                f"{a.path} and {b.path} are of the same val pictures with other labels ({name}): "
                "run one again on the other's data"
            )


def _require_same_task(a: Record, b: Record) -> None:
    one, other = a.task, b.task
    for what, left, right in (
        ("tasks", one.name, other.name),
        ("versions of the protocol", f"v{one.version}", f"v{other.version}"),
        ("metrics", one.metric, other.metric),
    ):
        if left != right:
            raise RecordError(f"records of other {what} do not compare: {left} and {right}")


def _by_seed(one: Measurement, metric: str) -> tuple[float, ...]:
    once = np.ones((1, len(one.outcome.names)))
    return tuple(float(one.outcome.weighted([k], once, metric)[0, 0]) for k in one.heads)


def _has_seeds(record: Record) -> bool:
    sweep = record.task.settings.get("sweep")
    return isinstance(sweep, dict) and "seeds" in sweep


def _differences(a: Measurement, by_class: Sequence[Paired | None]) -> tuple[ClassDifference, ...]:
    counts = a.outcome.class_pictures().tolist()
    every = [
        ClassDifference(name, count, one)
        for name, count, one in zip(a.classes, counts, by_class, strict=True)
    ]
    tested = [i for i, one in enumerate(every) if one.tested]
    surviving = holm([one.p for i in tested if (one := every[i].paired) is not None])
    for i, survives in zip(tested, surviving, strict=True):
        every[i] = replace(every[i], survives=survives and every[i].marked)
    return tuple(
        sorted(
            every,
            key=lambda one: (one.paired is None, -one.paired.difference if one.paired else 0.0),
        )
    )


def _other_conditions(a: Record, b: Record) -> Iterator[str]:
    """What differs between two runs beside the weights, in words."""
    if a.key == b.key:
        yield "both records are of one run (equal keys)"
    pairs: dict[str, tuple[Any, Any]] = {
        "profile": (a.task.profile, b.task.profile),
        "preset": (a.task.preset or "none", b.task.preset or "none"),
        "choice of the best point": (a.task.select, b.task.select),
        "engine": (_engine(a), _engine(b)),
        "precision": (a.environment.precision, b.environment.precision),
        "variant of the data": (a.data.variant, b.data.variant),
    }
    for what, (one, other) in pairs.items():
        if one != other:
            yield f"other {what}: {one} (A) and {other} (B)"
    settings = flatten(a.task.settings), flatten(b.task.settings)
    names = [
        name
        for name in {**settings[0], **settings[1]}
        if settings[0].get(name) != settings[1].get(name)
    ]
    if names:
        shown = [
            f"{name} {settings[0].get(name, '–')} (A) and {settings[1].get(name, '–')} (B)"
            for name in names[:_NAMED]
        ]
        more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
        yield f"other settings: {', '.join([*shown, *more])}"
    for letter, own, others in (("A", a, b), ("B", b, a)):
        alone = [text for text in own.deviations if text not in others.deviations]
        if alone:
            yield f"{letter} alone deviates from its protocol: {'; '.join(alone)}"
    kinds = a.data.fingerprint_kind, b.data.fingerprint_kind
    if kinds[0] != kinds[1]:
        yield (
            f"fingerprints of the data are of {kinds[0]} (A) and {kinds[1]} (B): whether the "
            "training data are equal is not known"
        )
    elif a.data.fingerprint != b.data.fingerprint:
        yield "other data: the val pictures are equal by name and label, the rest is not"


def _engine(record: Record) -> str:
    """The engine that the command line names."""
    words = record.command.replace("=", " ").split()
    return words[words.index("--engine") + 1] if "--engine" in words[:-1] else "mmdet"
