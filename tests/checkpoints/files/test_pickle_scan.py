import pickle
import pickletools
import random
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import pytest

from vicregl_bench.checkpoints.files import pickle_scan
from vicregl_bench.checkpoints.files.pickle_scan import (
    PickleScanError,
    TruncatedPickleError,
    scan_pickle,
)

VALUES: dict[str, Any] = {
    "w": np.arange(6.0).reshape(2, 3),
    "many": [None, True, -1, 70_000, 2**40, 2**3000, 0.5, "ä" * 300, b"x" * 300, "", ()],
    "nested": {"a": [{"b": ((1, 2), frozenset({3}), {4})}], "self": None},
    "ordered": OrderedDict(a=1, b=[deque([1]), bytearray(b"z")]),
    "random": random.Random(0),
    "complex": 1 + 2j,
}
VALUES["nested"]["self"] = VALUES


@pytest.mark.parametrize("protocol", range(6))
def test_scan_follows_python_to_the_end(protocol: int) -> None:
    data = pickle.dumps(VALUES, protocol)
    scan = scan_pickle(b"before" + data + b"behind", 6)
    assert scan.end == 6 + len(data)
    assert scan.instructions == sum(1 for _ in pickletools.genops(data))
    assert {"collections.OrderedDict", "collections.deque", "random.Random"} <= scan.names


@pytest.mark.parametrize("protocol", range(6))
def test_truncation_is_told_at_every_byte(protocol: int) -> None:
    data = pickle.dumps({"w": np.arange(3.0), "name": "x" * 40, "big": 2**70}, protocol)
    for size in range(len(data)):
        with pytest.raises(TruncatedPickleError):
            scan_pickle(data[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\xff.",  # no instruction
        b"\x80\x02.",  # nothing made
        b"\x80\x02]e.",  # no mark
        b"\x80\x02h\x00.",  # nothing in the memo
        b"\x80\x02Na.",  # one value for two
        b"g12345678901234567890123\n.",
    ],
)
def test_damage_is_no_truncation(data: bytes) -> None:
    with pytest.raises(PickleScanError, match="no pickle, or a damaged one"):
        scan_pickle(data)


def test_names_are_found_through_the_memo() -> None:
    data = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93."
    assert scan_pickle(data).names == {"os.system"}


def test_mark_can_be_popped() -> None:
    assert scan_pickle(b"\x80\x02(0N.").end == 6
    assert pickle.loads(b"\x80\x02(0N.") is None


@pytest.mark.parametrize("name", [b"os\nsys\x1b[2Jtem\n", b"o s\nsystem\n", b"\nx\n"])
def test_what_is_no_name_is_not_repeated(name: bytes) -> None:
    with pytest.raises(PickleScanError, match="that can be no name"):
        scan_pickle(b"\x80\x02c" + name + b".")


def test_instructions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps([0] * 1000, 2)
    scan_pickle(data)
    monkeypatch.setattr(pickle_scan, "MAX_INSTRUCTIONS", 1000)
    with pytest.raises(PickleScanError, match="more than 1,000 instructions"):
        scan_pickle(data)


def test_long_tuples_as_keys_are_no_attack() -> None:
    keys = {tuple(range(k, k + 100)): k for k in range(1000)}
    assert scan_pickle(pickle.dumps(keys, 4)).instructions > 1000


def test_depth_counts_every_kind_of_nesting() -> None:
    value: Any = 0
    for level in range(1200):
        value = [[value], {"k": value}, (value,), OrderedDict(k=value)][level % 4]
    with pytest.raises(PickleScanError, match="more than 1000 deep"):
        scan_pickle(_dumps_deep(value))


def _dumps_deep(value: object) -> bytes:
    import sys

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        return pickle.dumps(value, 2)
    finally:
        sys.setrecursionlimit(limit)
