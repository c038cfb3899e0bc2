import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from vicregl_bench.errors import RecordError
from vicregl_bench.records import Record, find_record, read_record, read_records, write_record


def make_record(
    *, name: str = "a.pth", task: str = "voc_linear", version: int = 1, **changes: Any
) -> Record:
    """A valid record with 50 % mIoU."""
    tree: dict[str, Any] = {
        "key": "k" * 64,
        "status": "complete",
        "created": "2026-01-01T00:00:00+00:00",
        "task": {
            "name": task,
            "version": version,
            "profile": "ci",
            "title": "t",
            "tables": ["1"],
            "source": "s",
            "settings": {},
            "select": "val",
            "metric": "miou",
        },
        "checkpoint": {
            "name": name,
            "method": "m",
            "arch": "resnet18",
            "weights_sha256": "w",
            "file_sha256": None,
            "card": {},
            "coverage": None,
        },
        "data": {
            "root": "r",
            "variant": "voc12",
            "train": 1,
            "val": 1,
            "holdout": 0,
            "fingerprint": "f",
            "fingerprint_kind": "content",
        },
        "deviations": [],
        "progress": {"iterations": 60, "of": 60},
        "results": [
            {
                "lr": 0.1,
                "seed": 0,
                "score": 50.0,
                "scores": {"miou": 50.0, "pixel_accuracy": 90.0},
                "by_class": {"x": None},
            }
        ],
        "best": {
            "lr": 0.1,
            "score": 50.0,
            "std": 1.0,
            "seeds": 3,
            "interval": [45.0, 55.0],
            "scores": {"miou": 50.0, "pixel_accuracy": 90.0},
            "by_class": {"x": None},
        },
        "cost": {
            "wall_s": 1.0,
            "train_s": 1.0,
            "pictures_per_second": 1.0,
            "peak_memory_mib": 1.0,
        },
        "environment": {
            "device": "cpu",
            "precision": "fp32",
            "platform": "p",
            "cpu_count": 2,
            "versions": {},
            "git_revision": None,
        },
        "command": "vicregl-bench run",
    }
    return Record.model_validate(tree | changes)


def test_round_trip_and_finding_by_key(tmp_path: Path) -> None:
    record = make_record()
    path = write_record(tmp_path, record)
    assert path.name == "voc_linear-v1-ci-a-kkkkkkkkkkkk.json"
    assert read_record(path) == record
    assert read_records(tmp_path) == [record]
    assert find_record(tmp_path, record.key) == (path, record)
    assert find_record(tmp_path, "j" * 64) is None


def test_a_failed_write_leaves_the_old_record_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_record(tmp_path, make_record())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left"):
        write_record(tmp_path, make_record(status="diverged"))
    assert read_record(path).status == "complete"
    assert list(tmp_path.iterdir()) == [path]


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
