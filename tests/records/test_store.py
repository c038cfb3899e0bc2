import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.made_record import make_record
from vicregl_bench.errors import RecordError
from vicregl_bench.records import (
    Record,
    find_record,
    read_record,
    read_records,
    store,
    write_record,
)


def test_round_trip_and_finding_by_key(tmp_path: Path) -> None:
    record = make_record()
    path = write_record(tmp_path, record)
    assert path.name == "voc_linear-v1-ci-a-kkkkkkkkkkkk.json"
    assert read_record(path) == record
    assert read_records(tmp_path) == [record]
    with pytest.raises(RecordError, match="it is a file"):
        read_records(next(tmp_path.glob("*.json")))
    assert find_record(tmp_path, record.key) == (path, record)
    assert find_record(tmp_path, "j" * 64) is None


def test_a_failed_write_leaves_the_old_record_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_record(tmp_path, make_record())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for name in ("a.pth", "renamed.pth"):
        with pytest.raises(RecordError, match="No space left"):
            write_record(tmp_path, make_record(name=name, status="diverged"))
    assert read_record(path).status == "complete"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("moco.pth", "moco"),
        ("moco.pth.tar", "moco"),
        ("moco.tar", "moco"),
        ("random:resnet18", "random-resnet18"),
        ("a [1].pth", "a__1_"),
    ],
)
def test_a_records_file_is_named_for_the_checkpoint_without_its_ending(
    name: str, stem: str
) -> None:
    assert make_record(name=name).file_name == f"voc_linear-v1-ci-{stem}-kkkkkkkkkkkk.json"


def leave(folder: Path, name: str, **changes: Any) -> Path:
    """Write a record and its side files, as its run leaves them; others of its key stay."""
    record = make_record(name=name, **changes)
    stem = record.file_name.removesuffix(".json")
    files = {"pictures_file": f"{stem}.pictures.npz", "predictions_file": f"{stem}.predictions.npz"}
    for file in files.values():
        (folder / file).touch()
    path = folder / record.file_name
    path.write_text(record.model_copy(update=files).model_dump_json())
    return path


def test_of_one_key_the_finished_and_then_the_newest_record_is_found(tmp_path: Path) -> None:
    paths = {
        name: leave(tmp_path, name, status=status, created=f"2026-01-0{day}T00:00:00+00:00")
        for name, status, day in [
            ("a", "interrupted", 1),
            ("b", "diverged", 2),
            ("c", "complete", 4),
            ("d", "complete", 3),
            ("e", "interrupted", 5),
        ]
    }
    order = "cdbea"
    for name in order:
        found = find_record(tmp_path, "k" * 64)
        assert found is not None and found[0] == paths[name]
        paths[name].unlink()
    assert find_record(tmp_path, "k" * 64) is None


def test_a_record_replaces_those_of_its_key_under_other_names(tmp_path: Path) -> None:
    """The checkpoint's file was renamed between an interrupted run and the one that completed."""
    leave(tmp_path, "a.pth", status="interrupted")
    leave(tmp_path, "b.pth")
    other = leave(tmp_path, "a.pth", key="k" * 63 + "j")  # the first twelve letters are the same
    assert other.name == make_record(name="a.pth").file_name
    other = other.rename(tmp_path / f"other-{'k' * 12}.json")
    foreign = tmp_path / "a.predictions.npz"
    foreign.touch()
    borrowed = leave(tmp_path, "c.pth")
    tree = json.loads(borrowed.read_text())
    borrowed.write_text(json.dumps(tree | {"predictions_file": foreign.name}))
    leave(tmp_path, "a.pth", status="interrupted")
    path = leave(tmp_path, "d.pth")
    record = read_record(path)
    assert write_record(tmp_path, record) == path
    assert find_record(tmp_path, record.key) == (path, record)
    left = {one.name for one in tmp_path.iterdir()}
    unnamed = borrowed.with_suffix(".predictions.npz").name  # no record says whose it is
    mine = {path.name, str(record.pictures_file), str(record.predictions_file)}
    assert left == mine | {other.name, foreign.name, unnamed}
    assert write_record(tmp_path, record) == path  # the same again keeps its own
    assert {one.name for one in tmp_path.iterdir()} == left


def test_an_interrupted_record_removes_no_finished_one(tmp_path: Path) -> None:
    finished = leave(tmp_path, "a.pth")
    older = leave(tmp_path, "b.pth", status="interrupted")
    write_record(tmp_path, make_record(name="c.pth", status="interrupted"))
    found = find_record(tmp_path, "k" * 64)
    assert found is not None and found[0] == finished
    assert not older.exists()


def test_a_record_that_another_process_removes_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, path = leave(tmp_path, "a.pth", status="interrupted"), leave(tmp_path, "b.pth")

    def read(one: Path) -> Record:
        gone.unlink(missing_ok=True)
        return read_record(one)

    monkeypatch.setattr(store, "read_record", read)
    found = find_record(tmp_path, "k" * 64)
    assert found is not None and found[0] == path


def test_unknown_fields_and_versions_are_refused(tmp_path: Path) -> None:
    path = write_record(tmp_path, make_record())
    text = path.read_text()
    path.write_text(text.replace('"status"', '"state"'))
    with pytest.raises(RecordError, match="not valid at"):
        read_record(path)
    path.write_text(text.replace('"schema_version": 2', '"schema_version": 3'))
    with pytest.raises(RecordError, match="schema_version 3"):
        read_record(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="not text"):
        read_record(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"schema_version": ' + "9" * 5_000 + "}", '{"schema_version": 2']
)
def test_what_json_cannot_read_is_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(RecordError, match="damaged or half-written"):
        read_record(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("best.score", float("nan")),
        ("best.score", 5000.0),
        ("best.score", -1.0),
        ("best.std", float("inf")),
        ("best.interval", [float("nan"), 50.0]),
        ("best.interval", [10.0, 101.0]),
        ("best.scores", {"miou": 5000.0}),
        ("best.by_class", {"x": float("nan")}),
        ("results", [{"seed": 0, "score": 101.0}]),
        ("results", [{"seed": 0, "score": 1.0, "holdout": float("inf")}]),
        ("cost", {"wall_s": float("nan")}),
    ],
)
def test_numbers_that_are_no_scores_are_refused_by_name(
    tmp_path: Path, field: str, value: Any
) -> None:
    path = write_record(tmp_path, make_record())
    tree = json.loads(path.read_text())
    part, _, name = field.partition(".")
    if name:
        tree[part][name] = value
    else:
        tree[part] = value if isinstance(value, list) else tree[part] | value
    path.write_text(json.dumps(tree))
    with pytest.raises(RecordError, match=rf"a-kkkkkkkkkkkk.json is not valid at {field}"):
        read_record(path)


def test_scores_at_the_ends_of_their_range_are_read(tmp_path: Path) -> None:
    best = {"score": 100.0, "std": 0.0, "interval": [0.0, 100.0], "scores": {"top1": 100.0}}
    for scores in ({"distance_error": 141.4214, "miou": None}, {"top1": 0.0}):
        record = make_record(best=best | {"scores": scores})
        assert read_record(write_record(tmp_path, record)) == record


def test_a_record_of_the_first_schema_reads_as_what_it_would_be_now(tmp_path: Path) -> None:
    new = make_record(predictions_file=None)
    tree = json.loads(new.model_dump_json())
    del tree["task"]["metric"], tree["predictions_file"]
    old = {"lr": 0.1, "seed": 0, "miou": 50.0, "pixel_accuracy": 90.0, "class_iou": {"x": None}}
    lost = {"lr": 1.0, "seed": 0, "miou": None, "pixel_accuracy": None, "class_iou": None}
    tree |= {
        "schema_version": 1,
        "results": [old, {**lost, "diverged_at": 3, "holdout_miou": None}],
        "best": {
            "lr": 0.1,
            "miou_mean": 50.0,
            "miou_std": 1.0,
            "seeds": 3,
            "interval": [45.0, 55.0],
            "class_iou": {"x": None},
        },
    }
    path = tmp_path / "old.json"
    path.write_text(json.dumps(tree))
    read = read_record(path)
    assert read.best == new.best and read.results[0] == new.results[0]
    assert (read.results[1].score, read.results[1].diverged_at) == (None, 3)
    assert (read.schema_version, read.task.metric) == (2, "miou")
    del tree["results"][0]["miou"]
    path.write_text(json.dumps(tree))
    with pytest.raises(RecordError, match="schema_version 1"):
        read_record(path)
