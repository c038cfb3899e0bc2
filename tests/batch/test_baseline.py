"""Baselines: what is kept, how it is written, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.made_record import make_record
from vicregl_bench.batch.baseline import (
    Accepted,
    Baseline,
    differences,
    make_entry,
    read_baseline,
    write_baseline,
)
from vicregl_bench.errors import RecordError
from vicregl_bench.records import Record


def record_of(**changes: Any) -> Record:
    versions = {"torch": "2.1", "vicregl-bench": "0.1", "timm": "1.0"}
    task = {"settings": {"knn": {"ks": [10, 20]}}}
    return make_record(task=task, environment={"versions": versions}, **changes)


def entry(**changes: Any) -> Accepted:
    return make_entry(record_of()).model_copy(update=changes)


def test_an_entry_says_what_was_measured_on_what() -> None:
    found = make_entry(record_of())
    assert (found.score, found.std, found.seeds, found.interval) == (50.0, 1.0, 3, (45.0, 55.0))
    assert found.settings == {"knn.ks": [10, 20]}
    assert (found.task, found.version, found.profile) == ("voc_linear", 1, "ci")
    assert (found.metric, found.data, found.weights_sha256) == ("miou", "f", "w")
    assert found.versions == {"torch": "2.1", "vicregl-bench": "0.1"}


def test_a_record_without_a_score_gives_none() -> None:
    with pytest.raises(RecordError, match="has no score"):
        make_entry(record_of(status="diverged", best=None))


def test_round_trip_is_sorted_and_stable(tmp_path: Path) -> None:
    path = tmp_path / "ci" / "baseline.json"
    one, two = entry(score=1.5), entry(score=2.5)
    write_baseline(path, Baseline(tasks={"b": two, "a": one}))
    first = path.read_bytes()
    assert read_baseline(path) == Baseline(tasks={"a": one, "b": two})
    write_baseline(path, Baseline(tasks={"a": one, "b": two}))
    assert path.read_bytes() == first and first.endswith(b"}\n")
    tree = json.loads(first)
    assert tree["schema_version"] == 1
    assert list(tree["tasks"]) == ["a", "b"]
    assert list(tree["tasks"]["a"]) == sorted(tree["tasks"]["a"])
    assert differences(one, read_baseline(path).tasks["a"]) == []  # type: ignore[union-attr]


def test_scores_are_rounded_so_that_diffs_are_of_scores() -> None:
    found = make_entry(record_of(best={"score": 100 / 3, "interval": (1 / 3, 200 / 3)}))
    assert (found.score, found.interval) == (33.3333, (0.3333, 66.6667))


def test_no_file_is_no_baseline(tmp_path: Path) -> None:
    assert read_baseline(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: text[:-30], r"damaged or half-written \(line \d+\): restore it"),
        (lambda text: "", "damaged or half-written"),
        (lambda text: "[]", "schema_version None, not 1"),
        (lambda text: text.replace('version": 1,', 'version": 2,', 1), "schema_version 2, not 1"),
        (lambda text: text.replace('"score": 50.0', '"score": "x"'), r"not valid at tasks\.a\.sco"),
        (lambda text: text.replace('"score"', '"skore"'), r"not valid at tasks\.a\.score"),
    ],
)
def test_what_is_no_baseline_is_refused(change: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_baseline(path, Baseline(tasks={"a": entry()}))
    path.write_text(change(path.read_text()))
    with pytest.raises(RecordError, match=text) as caught:
        read_baseline(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot read baseline"):
        read_baseline(tmp_path)
    with pytest.raises(RecordError, match="cannot write baseline"):
        write_baseline(tmp_path, Baseline(tasks={"a": entry()}))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "protocol version 1, baseline 2"),
        ({"task": "folder_knn"}, "task voc_linear, baseline folder_knn"),
        ({"profile": "paper"}, "profile ci, baseline paper"),
        ({"preset": "lars"}, "preset none, baseline lars"),
        ({"select": "holdout"}, "select val, baseline holdout"),
        ({"metric": "ap"}, "metric miou, baseline ap"),
        ({"precision": "bf16"}, "precision fp32, baseline bf16"),
        ({"data": "g" * 64}, "other data (f, baseline gggggggg)"),
        ({"settings": {"knn.ks": [10]}}, "knn.ks [10, 20], baseline [10]"),
        ({"settings": {"knn.ks": [10, 20], "b": 1}}, "b none, baseline 1"),
    ],
)
def test_what_makes_two_entries_incomparable_is_named(change: dict[str, Any], text: str) -> None:
    assert differences(entry(), entry(**change)) == [text]


def test_weights_architecture_and_versions_may_differ() -> None:
    other = entry(weights_sha256="v", arch="resnet50", versions={}, checkpoint="b.pth", score=1.0)
    assert differences(entry(), other) == []
