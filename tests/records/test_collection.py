import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.made_record import changed, make_record
from vicregl_bench.errors import RecordError
from vicregl_bench.records import Record
from vicregl_bench.records.collection import collect


def write(path: Path, record: Record) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json())
    return path


def scored(score: float, **changes: Any) -> Record:
    """A record of this score, and of as much pixel accuracy as `make_record` has."""
    best = {"score": score, "scores": {"miou": score, "pixel_accuracy": 90.0}}
    return make_record(best=best, **changes)


def of_machine(record: Record, device: str, torch: str) -> Record:
    machine = {"device": device, "versions": {"torch": torch}, "platform": f"{device}-linux"}
    return changed(record, environment=machine)


def test_records_of_folders_in_order_with_their_paths(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "b" / "2.json", make_record(key="2" * 64)),
        write(tmp_path / "b" / "3.json", make_record(key="3" * 64, status="interrupted")),
        write(tmp_path / "a" / "1.json", make_record(key="1" * 64)),
    ]
    write(tmp_path / "b" / "work" / "state.json", make_record(key="4" * 64))
    warnings: list[str] = []
    found = collect([tmp_path / "b", tmp_path / "a", tmp_path / "b"], warnings.append)
    assert [entry.path for entry in found.entries] == paths
    assert [record.key[0] for record in found.records] == ["2", "3", "1"]
    assert (found.duplicates, found.unreadable, warnings) == (0, (), [])


def test_a_file_behind_two_folders_is_one(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.json", make_record())
    (tmp_path / "b").symlink_to(tmp_path / "a")
    warnings: list[str] = []
    found = collect([tmp_path / "a", tmp_path / "b"], warnings.append)
    assert (len(found.entries), found.duplicates, warnings) == (1, 0, [])


def test_of_duplicates_the_finished_and_then_the_newest_is_kept(tmp_path: Path) -> None:
    for name, status, day in [
        ("a", "complete", 1),
        ("b", "complete", 3),
        ("c", "complete", 2),
        ("d", "interrupted", 4),
    ]:
        record = scored(50.0 + day * 3e-5, created=f"2026-01-0{day}T00:00:00+00:00", status=status)
        write(tmp_path / name / "x.json", record)
        write(tmp_path / name / "other.json", make_record(key=name * 64))
    warnings: list[str] = []
    found = collect([tmp_path / name for name in "abcd"], warnings.append)
    same = [entry.path for entry in found.entries if entry.record.key == "k" * 64]
    assert same == [tmp_path / "b" / "x.json"]
    assert len(found.entries) == 5 and found.duplicates == 3
    assert len(warnings) == 1 and warnings[0].startswith("3 records are left out")
    assert all(entry.marks == () for entry in found.entries)


def test_of_interrupted_ones_the_newest_is_kept(tmp_path: Path) -> None:
    for day in (2, 1):
        record = make_record(status="interrupted", created=f"2026-01-0{day}T00:00:00+00:00")
        write(tmp_path / f"{day}.json", record)
    found = collect([tmp_path], lambda text: None)
    assert [entry.path.name for entry in found.entries] == ["2.json"]


def test_contradicting_records_are_all_kept_and_name_each_other(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine" / "x.json", of_machine(scored(50.0), "cpu", "2.15.0"))
    theirs = write(tmp_path / "theirs" / "y.json", of_machine(scored(50.2), "H200", "2.9.1"))
    write(tmp_path / "copy" / "x.json", of_machine(scored(50.0), "cpu", "2.15.0"))
    write(tmp_path / "mine" / "other.json", make_record(key="j" * 64))
    warnings: list[str] = []
    folders = [tmp_path / name for name in ("mine", "theirs")]
    found = collect([*folders, tmp_path / "copy"], warnings.append)
    marked = {entry.path for entry in found.entries if entry.marks}
    assert len(marked) == 2 and theirs in marked and found.duplicates == 1
    found = collect(folders, warnings.append)
    by_path = {entry.path: entry.marks for entry in found.entries}
    assert by_path[mine] == by_path[theirs] and by_path[tmp_path / "mine" / "other.json"] == ()
    (mark,) = by_path[mine]
    assert mark in warnings
    assert "they cannot both be right" in mark and "round otherwise" not in mark
    for words in (mine, theirs, "miou 50.0000", "miou 50.2000", "torch 2.9.1", "H200-linux"):
        assert str(words) in mark


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([50.0, 50.19], "another machine or version may round otherwise"),
        ([50.0, 50.3], "they cannot both be right"),
        ([50.0, 50.1, 50.3], "at most one can be right"),
        ([50.0, None], "they cannot both be right"),
    ],
)
def test_how_far_records_contradict_each_other(
    scores: list[float | None], words: str, tmp_path: Path
) -> None:
    for k, score in enumerate(scores):
        record = make_record(status="diverged", best=None) if score is None else scored(score)
        (tmp_path / f"{k}.json").write_text(json.dumps(record.model_dump(mode="json")))
    (mark,) = {mark for one in collect([tmp_path], lambda text: None).entries for mark in one.marks}
    assert f"contradict each other; {words}: " in mark


@pytest.mark.parametrize(
    ("other", "contradicts"),
    [
        (scored(50.0001), False),
        (scored(50.0003), True),
        (scored(49.9998), True),
        (make_record(status="diverged", best=None), True),
        (make_record(status="interrupted", best=None), False),
    ],
)
def test_what_contradicts(other: Record, contradicts: bool, tmp_path: Path) -> None:
    write(tmp_path / "a.json", scored(50.0))
    (tmp_path / "b.json").write_text(json.dumps(other.model_dump(mode="json")))
    found = collect([tmp_path], lambda text: None)
    assert [bool(entry.marks) for entry in found.entries] == (
        [True] * 2 if contradicts else [False]
    )


def test_another_metric_of_theirs_contradicts_too(tmp_path: Path) -> None:
    write(tmp_path / "a.json", make_record())
    write(tmp_path / "b.json", make_record(best={"scores": {"miou": 50.0, "pixel_accuracy": 80.0}}))
    assert len(collect([tmp_path], lambda text: None).entries) == 2
    write(tmp_path / "b.json", make_record(best={"scores": {"miou": 50.0}}))
    assert len(collect([tmp_path], lambda text: None).entries) == 1


def test_the_newest_of_what_agrees_stands_for_it_among_contradictions(tmp_path: Path) -> None:
    for day, score in [(1, 50.0), (2, 50.0), (3, 51.0), (4, 51.0)]:
        created = f"2026-01-0{day}T00:00:00+00:00"
        write(tmp_path / f"{day}.json", scored(score, created=created))
    found = collect([tmp_path], lambda text: None)
    assert [entry.path.name for entry in found.entries] == ["2.json", "4.json"]
    assert found.duplicates == 2


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.json", make_record())
    (tmp_path / "half.json").write_text(whole.read_text()[:300])
    (tmp_path / "list.json").write_text("[]")
    newer = json.loads(whole.read_text()) | {"schema_version": 3}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    warnings: list[str] = []
    found = collect([tmp_path], warnings.append)
    assert [entry.path for entry in found.entries] == [whole]
    assert [text.split(": ", 1)[1] for text in warnings] == list(found.unreadable)
    assert "half.json is damaged" in warnings[0] and "list.json is no record" in warnings[1]
    assert "newer.json is no record that this version reads (schema_version 3" in warnings[2]


def test_older_records_are_migrated_and_meet_their_newer_selves(tmp_path: Path) -> None:
    new = make_record()
    tree = json.loads(new.model_dump_json())
    del tree["task"]["metric"], tree["predictions_file"]
    old = {"lr": 0.1, "seed": 0, "miou": 50.0, "pixel_accuracy": 90.0, "class_iou": {"x": None}}
    best = {"lr": 0.1, "miou_mean": 50.0, "miou_std": 1.0, "seeds": 3, "interval": [45.0, 55.0]}
    tree |= {"schema_version": 1, "results": [old], "best": best | {"class_iou": {"x": None}}}
    (tmp_path / "old.json").write_text(json.dumps(tree))
    found = collect([tmp_path], lambda text: None)
    assert found.records == (new,)
    write(tmp_path / "new.json", new)
    assert collect([tmp_path], lambda text: None).duplicates == 1


def test_no_record_at_all_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no record in .*; `vicregl-bench run"):
        collect([tmp_path], lambda text: None)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(RecordError, match="1 file could not be read"):
        collect([tmp_path], lambda text: None)
    with pytest.raises(RecordError, match=r"no folder of records at .*gone"):
        collect([tmp_path / "gone"], lambda text: None)
    with pytest.raises(RecordError, match="it is a file"):
        collect([tmp_path / "x.json"], lambda text: None)


def test_a_thousand_records_are_each_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "0000.json", make_record(key=f"{0:064d}"))
    text = first.read_text()
    for index in range(1, 1000):
        (tmp_path / f"{index:04d}.json").write_text(text.replace(f"{0:064d}", f"{index:064d}"))
    shutil.copytree(tmp_path, tmp_path / "copy")
    reads = 0
    whole = Path.read_text

    def count(self: Path, *arguments: Any, **options: Any) -> str:
        nonlocal reads
        reads += 1
        return whole(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", count)
    found = collect([tmp_path, tmp_path / "copy"], lambda text: None)
    assert (len(found.entries), found.duplicates, reads) == (1000, 1000, 2000)
