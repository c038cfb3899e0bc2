"""Files that processes make together: those of one that died, and progress without repetition."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vicregl_bench.features.checksums import Checksums
from vicregl_bench.features.shared_files import Made, make_together, when_changed

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_a_dead_process_had_at_work_is_made(tmp_path: Path) -> None:
    made: list[str] = []
    rounds = 0

    def make(names: Sequence[str]) -> Made:
        for name in names:
            made.append(name)
            yield name, name.encode()

    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "0.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"

        def kill_when_waiting() -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 3:
                assert made == ["1.npy"]
                other.kill()
                other.wait()

        index = Checksums(tmp_path, {}, lambda text: None)
        make_together(index, ["0.npy", "1.npy"], make, check_stop=kill_when_waiting)
    assert made == ["1.npy", "0.npy"]
    assert [(tmp_path / name).read_text() for name in ("0.npy", "1.npy")] == ["0.npy", "1.npy"]


def test_progress_is_told_where_it_changed() -> None:
    told: list[int] = []
    update = when_changed(told.append)
    for done in (0, 0, 3, 3, 4):
        update(done)
    assert told == [0, 3, 4]
