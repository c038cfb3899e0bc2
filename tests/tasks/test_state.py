"""The folder of an unfinished run: what it took, whether it can go on, and what is removed."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from vicregl_bench.tasks import state
from vicregl_bench.tasks.state import Clock, Spent, forget_state, read_spent, resumes

CPU = torch.device("cpu")


@pytest.fixture()
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    time = [100.0]
    monkeypatch.setattr(state.time, "monotonic", lambda: time[0])
    monkeypatch.setattr(state, "peak_memory_mib", lambda: 700.0)
    return time


def checkpoint(work: Path, iteration: int = 10) -> Path:
    """A whole checkpoint, noted under the path of another folder, as after a move."""
    path = work / f"iter_{iteration}.pth"
    torch.save({"state": torch.arange(1000)}, path)
    (work / "last_checkpoint").write_text(f"/moved/away/{path.name}")
    return path


def test_the_clock_adds_up_the_parts_of_a_run(tmp_path: Path, now: list[float]) -> None:
    first = Clock(tmp_path, CPU)
    assert first.spent() == Spent(peak_memory_mib=700.0)
    now[0] = 103.0
    first.begin_training()
    now[0] = 104.0
    first.step(1, 4)
    now[0] = 105.0
    first.step(2, 4)
    now[0] = 109.0  # the time after the last step is not training's
    first.save()
    left = Spent(iterations=2, wall_s=9.0, train_s=2.0, pictures=8, peak_memory_mib=700.0)
    assert read_spent(tmp_path) == left
    assert left.cost().pictures_per_second == 4.0
    now[0] = 200.0
    second = Clock(tmp_path, CPU)
    second.begin_training()
    now[0] = 202.0
    second.step(3, 4)
    assert second.spent() == Spent(3, 11.0, 4.0, 12, 700.0)
    assert read_spent(tmp_path) == left  # until it saves
    second.save()
    assert second.spent() == read_spent(tmp_path)


@pytest.mark.parametrize(("error", "counted"), [(None, 7), (KeyboardInterrupt, 5)])
def test_iterations_that_no_checkpoint_has_do_not_count_after_an_error(
    error: type[BaseException] | None, counted: int, tmp_path: Path, now: list[float]
) -> None:
    """A second Ctrl-C, or a data loading process that died; what they took does count."""
    clock = Clock(tmp_path, CPU)
    try:
        with clock:
            clock.begin_training()
            for iterations in range(1, 8):
                now[0] += 1
                clock.step(iterations, 4)
                if iterations == 5:
                    clock.save()
            if error is not None:
                raise error
    except KeyboardInterrupt:
        pass
    left = Spent(iterations=counted, wall_s=7.0, train_s=7.0, pictures=28, peak_memory_mib=700.0)
    assert read_spent(tmp_path) == clock.spent() == left


@pytest.mark.parametrize(("first", "counted"), [(13, 12), (11, 10), (1, 0)])
def test_an_error_after_going_on_from_an_earlier_checkpoint(
    first: int, counted: int, tmp_path: Path, now: list[float]
) -> None:
    (tmp_path / "spent.json").write_text(json.dumps(asdict(Spent(iterations=12))))
    with pytest.raises(KeyboardInterrupt), Clock(tmp_path, CPU) as clock:
        clock.begin_training()
        clock.step(first, 4)
        clock.step(first + 1, 4)
        raise KeyboardInterrupt
    assert read_spent(tmp_path).iterations == counted


def test_a_larger_peak_of_an_earlier_part_stays(tmp_path: Path, now: list[float]) -> None:
    (tmp_path / "spent.json").write_text(json.dumps(asdict(Spent(peak_memory_mib=900.0))))
    assert Clock(tmp_path, CPU).spent().peak_memory_mib == 900.0


def test_nothing_trained_has_no_pace() -> None:
    assert Spent(wall_s=3.0).cost().pictures_per_second is None


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"steps": 3}', b"\0" * 40]
)
def test_a_damaged_note_of_what_it_took_counts_as_none(note: bytes, tmp_path: Path) -> None:
    (tmp_path / "spent.json").write_bytes(note)
    assert read_spent(tmp_path) == Spent()
    assert read_spent(tmp_path / "not there") == Spent()


def test_it_resumes_from_a_whole_checkpoint_wherever_the_folder_is(tmp_path: Path) -> None:
    warnings: list[str] = []
    assert not resumes(tmp_path, warnings.append)
    path = checkpoint(tmp_path)
    assert resumes(tmp_path, warnings.append)
    assert (tmp_path / "last_checkpoint").read_text() == str(path)
    assert warnings == []


@pytest.mark.parametrize("damage", ["torn", "empty", "gone", "no note", "zeros for a note"])
def test_a_torn_state_is_given_up_with_one_warning(damage: str, tmp_path: Path) -> None:
    path, pointer = checkpoint(tmp_path), tmp_path / "last_checkpoint"
    (tmp_path / "iter_5.pth").write_bytes(b"an earlier one")
    (tmp_path / "spent.json").write_text(json.dumps(asdict(Spent(iterations=10))))
    match damage:
        case "torn":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
        case "no note":
            path.write_bytes(b"")
            pointer.write_text("")
        case "zeros for a note":  # what some file systems leave after a power cut
            path.write_bytes(b"\0" * 40)
            pointer.write_bytes(b"\0" * 40)
    warnings: list[str] = []
    assert not resumes(tmp_path, warnings.append)
    assert len(warnings) == 1 and "begins again" in warnings[0]
    assert list(tmp_path.iterdir()) == []
    assert not resumes(tmp_path, warnings.append) and len(warnings) == 1


@pytest.mark.parametrize("damage", ["torn", "gone", "no note"])
def test_the_newest_whole_checkpoint_takes_the_place_of_a_damaged_one(
    damage: str, tmp_path: Path
) -> None:
    for iteration in (9, 10, 20):
        path = checkpoint(tmp_path, iteration)
    match damage:
        case "torn":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "gone":
            path.unlink()
        case "no note":
            path.write_bytes(b"")
            (tmp_path / "last_checkpoint").write_bytes(b"\0" * 40)
    (tmp_path / "spent.json").write_text(json.dumps(asdict(Spent(iterations=20, wall_s=9.0))))
    warnings: list[str] = []
    assert resumes(tmp_path, warnings.append)
    assert len(warnings) == 1 and "goes on from iter_10.pth" in warnings[0]
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "iter_10.pth")
    assert read_spent(tmp_path).wall_s == 9.0
    assert resumes(tmp_path, warnings.append) and len(warnings) == 1


@pytest.mark.parametrize("but_spent", [False, True])
def test_forgetting_leaves_the_logs(but_spent: bool, tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 12)
    (tmp_path / "spent.json").write_text("{}")
    scalars = tmp_path / "20260101_000000" / "vis_data"
    scalars.mkdir(parents=True)
    (scalars / "scalars.json").touch()
    log = scalars.parent / "run.log"
    log.write_text("iteration 10")
    forget_state(tmp_path, but_spent=but_spent)
    assert log.read_text() == "iteration 10"
    left = {path.name for path in tmp_path.rglob("*")}
    assert left - {"spent.json"} == {log.name, log.parent.name}
    assert ("spent.json" in left) == but_spent
