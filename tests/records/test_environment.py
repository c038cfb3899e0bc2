"""What a record says of the machine and versions it was made with."""

import importlib.metadata
import os

import pytest

from vicregl_bench.records.environment import describe_environment


def test_the_versions_are_those_of_all_that_decides_a_score() -> None:
    found = describe_environment("cpu", "fp32").versions
    for package in ("torch", "onedl-mmdetection", "pycocotools", "timm"):
        assert found[package] == importlib.metadata.version(package)


@pytest.mark.parametrize(("told", "count"), [(7, 7), (None, 1)])
def test_all_cpus_count_where_the_system_does_not_tell_which_are_ours(
    told: int | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert describe_environment("cpu", "fp32").cpu_count == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: told)
    assert describe_environment("cpu", "fp32").cpu_count == count
