"""Known answers for tolerances and verdicts, and that a crash is one row's own."""

from pathlib import Path
from typing import Any

import pytest

from tests.batch.test_baseline import entry, record_of
from vicregl_bench.batch import guard as guard_module
from vicregl_bench.batch.baseline import Baseline, make_entry
from vicregl_bench.batch.guard import Measured, Status, Verdict, guard, judge, measure, tolerance
from vicregl_bench.batch.job import Job, JobOutcome
from vicregl_bench.batch.weights import Weights
from vicregl_bench.errors import RunInterruptedError
from vicregl_bench.records import Record

JOB = Job(Weights(ckpt="a.pth"), "voc_linear", Path("data"), Path("out"))
NARROW = {"interval": (50.0, 50.0), "std": 0.0}


@pytest.mark.parametrize(
    ("baseline", "given", "points", "source"),
    [
        ({"interval": (45.0, 55.0), "std": 0.5}, None, 5.0, "interval"),
        # the interval need not be centred on the score: half of its whole width counts
        ({"interval": (49.0, 57.0)}, None, 4.0, "interval"),
        (NARROW | {"std": 0.9}, None, 0.9, "seeds"),
        (NARROW | {"std": 0.1}, None, 0.2, "least"),
        (NARROW | {"seeds": 1}, None, 0.2, "least"),
        ({"interval": (45.0, 55.0)}, 1.0, 1.0, "suite"),
        (NARROW, 0.0, 0.0, "suite"),
    ],
)
def test_tolerance_is_the_largest_of_three_or_what_is_given(
    baseline: dict[str, Any], given: float | None, points: float, source: str
) -> None:
    found = tolerance(entry(**baseline), given)
    assert (found.points, found.source) == (points, source)


def test_a_worse_score_does_not_widen_its_own_tolerance() -> None:
    # of 100 pictures 93 are right, then 86: the interval of 86 is wider than that of 93
    accepted = entry(score=93.0, interval=(88.0, 98.0), std=0.0)
    wide = entry(score=87.0, interval=(77.0, 97.0), std=9.0, seeds=3)
    found = judge(Measured("row", "folder_knn", wide), accepted)
    assert found.status is Status.fell
    assert found.tolerance is not None and found.tolerance.points == 5.0


def verdict_of(score: float, given: float | None = None, **changes: Any) -> Verdict:
    """Against a baseline of 50 with a tolerance of 0.2, other weights."""
    now = entry(**NARROW, score=score, weights_sha256="v")
    accepted = entry(**NARROW).model_copy(update=changes)
    return judge(Measured("row", "voc_linear", now), accepted, given)


@pytest.mark.parametrize(
    ("score", "status", "difference"),
    [
        (49.79, Status.fell, -0.21),
        (49.8, Status.passed, -0.2),  # 49.8 - 50 is below -0.2 in floating point
        (50.0, Status.passed, 0.0),
        (50.2, Status.passed, 0.2),
        (50.21, Status.better, 0.21),
    ],
)
def test_a_score_falls_by_more_than_the_tolerance(
    score: float, status: Status, difference: float
) -> None:
    found = verdict_of(score)
    assert (found.status, found.difference) == (status, difference)
    assert found.well == (status is not Status.fell) and found.ran


def test_a_fall_says_by_how_much() -> None:
    assert verdict_of(40.0).reason == (
        "miou fell by 10.00, from 50.00 to 40.00; 0.20 is tolerated (least)"
    )
    assert verdict_of(40.0, 10.0).status is Status.passed
    assert verdict_of(60.0).notes == ("--update takes the better score",)


def test_a_row_without_a_baseline_is_no_pass() -> None:
    found = judge(Measured("row", "voc_linear", entry()), None)
    assert found.status is Status.new and not found.well and found.ran
    assert "--update" in found.reason


def test_another_protocol_is_never_compared_even_where_the_score_is_the_same() -> None:
    found = verdict_of(50.0, version=2)
    assert found.status is Status.incomparable and not found.well
    assert (found.difference, found.tolerance) == (None, None)
    assert found.reason == "not comparable: protocol version 1, baseline 2"


def test_the_same_weights_with_another_score_point_at_code_or_machine() -> None:
    found = verdict_of(40.0, weights_sha256="v", versions={"torch": "2.0"})
    assert found.status is Status.fell
    assert found.notes == (
        "the weights are the baseline's: it is the code, the card or the machine "
        "(torch 2.0 -> 2.1, vicregl-bench unknown -> 0.1)",
    )
    assert verdict_of(50.0, weights_sha256="v").notes == ()
    assert verdict_of(40.0).notes == ()
    other = verdict_of(40.0, weights_sha256="v", arch="resnet18_v1")
    assert other.notes == ("read as resnet18, the baseline as resnet18_v1",)


def outcomes(monkeypatch: pytest.MonkeyPatch, *found: JobOutcome | Exception) -> None:
    left = list(found)

    def run(job: Job) -> JobOutcome:
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr(guard_module, "run_job", run)


def outcome(record: Record | None, code: int = 0, error: str = "") -> JobOutcome:
    return JobOutcome(code, record, Path("r.json") if record else None, error)


def test_a_crash_and_a_divergence_do_not_stop_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    diverged = record_of(status="diverged", best=None)
    outcomes(
        monkeypatch,
        outcome(None, 2, "no such file"),
        outcome(None, -9),
        outcome(diverged, 1),
        outcome(record_of()),
        outcome(record_of()),
        outcome(record_of(status="interrupted", best=None)),
    )
    accepted = make_entry(record_of())
    baseline = Baseline(tasks={"c": accepted, "d": accepted, "gone": accepted})
    begun: list[str] = []
    report = guard(dict.fromkeys("abcdef", JOB), baseline, {}, lambda name, job: begun.append(name))
    assert begun == list("abcdef")
    assert [one.status for one in report.verdicts] == [
        Status.crashed,
        Status.crashed,
        Status.diverged,
        Status.passed,
        Status.new,
        Status.crashed,
    ]
    assert report.verdicts[0].reason == "no such file"
    assert report.verdicts[1].reason.endswith("killed by signal 9")
    assert report.verdicts[5].reason == "it left no finished record"
    assert report.absent == ("gone",)
    assert not report.well and not report.ran
    assert list(report.baseline().tasks) == ["d", "e"]


def test_an_interruption_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes(monkeypatch, RunInterruptedError("interrupted"))
    with pytest.raises(RunInterruptedError):
        guard({"a": JOB}, None, {})


def test_tolerances_of_the_suite_reach_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes(monkeypatch, outcome(record_of()), outcome(record_of()))
    high = Baseline(tasks=dict.fromkeys("ab", entry(score=53.0)))
    report = guard({"a": JOB, "b": JOB}, high, {"a": 1.0, "b": None})
    # 3 points below: beyond the 1 given, within the interval's 5
    assert [one.status for one in report.verdicts] == [Status.fell, Status.passed]


def test_a_record_from_before_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes(monkeypatch, outcome(record_of()), outcome(record_of(created="2999-01-01T00:00:00Z")))
    earlier = measure("a", JOB)
    assert earlier.earlier == "2026-01-01T00:00:00+00:00"
    assert judge(earlier, entry()).notes == ("measured earlier, 2026-01-01T00:00:00+00:00",)
    assert measure("a", JOB).earlier is None
