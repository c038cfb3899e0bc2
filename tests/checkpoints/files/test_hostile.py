import json
import os
import pickle
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.checkpoints.files.hostile import HOSTILE, Payload, error_of, save_object

READ_WITHIN = """
import json, resource, sys
from vicregl_bench.checkpoints import find_containers, read_file, summarise_file
from vicregl_bench.errors import CheckpointError

pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[1:]:
    try:
        loaded = read_file(path)
        summarise_file(loaded)
        print(json.dumps(["read", len(find_containers(loaded).containers)]))
    except CheckpointError as error:
        print(json.dumps(["refused", str(error)]))
"""
"""Reads files, with one GiB more of address space than torch has taken, and says what came."""


def read_within(paths: list[Path]) -> list[tuple[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", READ_WITHIN, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("how", ["os.system", "open", "Path.write_text"])
@pytest.mark.parametrize(
    "kind", ["zip", "legacy", "pickle 0", "pickle 2", "pickle 4", "pickle 5", "npy"]
)
def test_code_is_named_and_not_run(tmp_path: Path, kind: str, how: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil"
    entries = {"w": np.ones(2), "x": Payload(trace, how)}
    if kind == "npy":
        save_object(path, entries)
    elif kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(entries, int(kind[-1])))
    else:
        torch.save(entries, path, _use_new_zipfile_serialization=kind == "zip")
    message = error_of(path)
    named = {"os.system": "posix.system", "open": "io.open", "Path.write_text": "pathlib.Path"}
    assert "refused, the pickle names foreign globals: " in message
    assert named[how] in message
    assert "numpy" not in message
    assert "--trust-pickle" in message
    assert not trace.exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused(tmp_path: Path, name: str) -> None:
    write, words = HOSTILE[name]
    write(tmp_path / name)
    assert words in error_of(tmp_path / name)


def test_memory_is_bounded_and_nothing_crashes(tmp_path: Path) -> None:
    for name, (write, _) in HOSTILE.items():
        write(tmp_path / name)
    at = [struct.pack("<I", place) for place in range(100_000)]
    lists = b"".join(b"]r" + place for place in at)  # each is put into the one before afterwards
    chain = b"".join(b"j" + outer + b"j" + inner + b"a0" for outer, inner in pairwise(at))
    (tmp_path / "deep").write_bytes(b"\x80\x02" + lists + chain + b"h\x00.")
    laughs = b"\x80\x02}q\x00X\x01\x00\x00\x00wNs"  # each list holds the one before ten times
    for _ in range(30):
        laughs += b"0]q\x01(" + b"h\x00" * 10 + b"eq\x00"
    (tmp_path / "laughs").write_bytes(laughs + b".")
    outcomes = read_within([tmp_path / name for name in (*HOSTILE, "deep", "laughs")])
    for (name, (_, words)), (kind, message) in zip(HOSTILE.items(), outcomes, strict=False):
        assert kind == "refused", name
        assert words in str(message), name
    assert outcomes[len(HOSTILE) :] == [("read", 0), ("read", 0)]
