from dataclasses import replace
from typing import Any

import pytest

from tests.batch.cells import SETTINGS, cell, measured, planned
from vicregl_bench.batch.estimate import Estimate, Total, duration, estimate, total, total_text
from vicregl_bench.records import Record


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**SETTINGS, section: {**SETTINGS[section], **values}}


def test_equal_runs_tell_by_their_median() -> None:
    records = [measured(wall_s=seconds) for seconds in (100.0, 300.0, 120.0)]
    assert estimate(cell(), records) == Estimate(120.0, "3 records with these settings")


def test_of_probes_the_slowest_counts_as_features_may_be_cached() -> None:
    probe = cell(plan=planned(iterations=None, batch=0))
    records = [measured(wall_s=8.0, rate=None), measured(wall_s=120.0, rate=None)]
    assert estimate(probe, records).seconds == 120.0
    other = cell(plan=planned(iterations=None, batch=0, settings=changed("sweep", seeds=1)))
    assert estimate(other, records).seconds is None


def test_a_longer_run_follows_from_the_throughput() -> None:
    # 120 x 8 pictures at 6 a second are 160 s; 20 s beside training for 50 val pictures, here 200
    longer = planned(iterations=120, settings=changed("schedule", iters=120), val=200)
    found = estimate(cell(plan=longer), [measured()])
    assert found == Estimate(160.0 + 80.0, "the throughput of 1 record of other length")


def test_trainings_one_after_another_add_up() -> None:
    # four runs of 60 x 8 pictures at 6 a second, and 20 s beside each run of the record's three
    sweep = changed("sweep", lrs=[0.1, 0.01, 0.05, 0.02], seeds=1)
    results = measured().results * 3
    record = measured(results=[one.model_dump() for one in results])
    runs = len(record.results)
    tuned = planned(frozen=False, runs=4, settings=sweep)
    assert estimate(cell(plan=tuned), [record]).seconds == 4 * 80.0 + 20.0 * 4 / runs


@pytest.mark.parametrize(
    "record",
    [
        measured(environment={"device": "GPU"}),
        measured(environment={"precision": "bf16"}),
        measured(checkpoint={"arch": "resnet50"}),
        measured(task={"name": "voc_fcn"}),
        measured(task={"version": 2}),
        measured(settings=changed("data", crop=[512, 512])),
        measured(settings=changed("sweep", seeds=1)),  # other heads on one pass
        measured(status="interrupted"),
        measured(status="diverged"),
        measured(train=99, rate=None),
        measured(val=0),
    ],
)
def test_nothing_is_taken_from_what_is_unlike(record: Record) -> None:
    assert estimate(cell(), [record]) == Estimate(None, "the protocol says: GPU hours")


def test_an_interrupted_run_has_its_share_left() -> None:
    stopped = cell(state="interrupted", done=(45, 60))
    assert estimate(stopped, [measured()]).seconds == 25.0


def test_an_interrupted_run_goes_on_at_its_own_pace() -> None:
    record = measured(status="interrupted", train_s=90.0, progress={"iterations": 45, "of": 60})
    stopped = cell(state="interrupted", done=(45, 60), record=record)
    assert estimate(stopped, [record]) == Estimate(30.0, "its own pace so far")
    elsewhere = replace(stopped, planned=planned(device="GPU"))
    assert estimate(elsewhere, [record]).seconds is None


def test_what_is_not_run_takes_no_time() -> None:
    for state in ("done", "diverged", "no root", "impossible", "refused"):
        assert estimate(cell(state=state), [measured()]) == Estimate(0.0, "")


def test_a_total_counts_the_unknown_apart() -> None:
    left = total([Estimate(60.0, ""), Estimate(None, ""), Estimate(30.0, "")])
    assert left == Total(90.0, 1)
    assert total_text(left) == "about 2 min and 1 of unknown length"
    assert total_text(Total(0.0, 2)) == "2 of unknown length"
    assert total_text(Total(40.0, 0)) == "about 40 s"


def test_times_are_for_people() -> None:
    assert [duration(s) for s in (0.4, 89, 100, 5399, 11520)] == [
        "0 s",
        "89 s",
        "2 min",
        "90 min",
        "3.2 h",
    ]
