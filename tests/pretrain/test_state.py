"""run.json and the choice of a checkpoint."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain.pictures import PictureList
from pretrain.probe import ProbeScores
from pretrain.recipe import Recipe
from pretrain.state import (
    STATE_FILE,
    RunState,
    latest_checkpoint,
    read_state,
    require_same_run,
    write_state,
)
from tests.pretrain.conftest import small_recipe
from vicregl_bench.errors import ConfigError, DataError, RecordError

PICTURES = PictureList(Path("/data"), ("a/0.png", "a/1.png", "b/0.png"))


def state_of(recipe: Recipe | None = None, **changes: Any) -> RunState:
    content: dict[str, Any] = {
        "status": "running",
        "recipe": (recipe or small_recipe()).model_dump(mode="json"),
        "pictures": len(PICTURES.names),
        "pictures_sha256": PICTURES.sha256,
        "device": "cpu",
        "processes": 2,
        "torch": "2.6.0",
        "command": "vicregl-bench pretrain --recipe tiny --data 'Bilder für alle'",
    }
    return RunState(**content | changes)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = state_of(
        status="finished",
        steps=10,
        wall_s=12.5,
        last={"loss": 1.25, "knn": 50.0},
        probe_start=ProbeScores(10.0, 20.0),
        probe_end=ProbeScores(30.0, 40.0),
    )
    write_state(tmp_path, state)
    read = read_state(tmp_path)
    assert read == state
    assert read is not None and read.probe_end == ProbeScores(knn=30.0, linear=40.0)
    assert read.command.endswith("'Bilder für alle'")
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_state_is_replaced_whole(tmp_path: Path) -> None:
    write_state(tmp_path, state_of(command="long" * 1000))
    write_state(tmp_path, state_of(command="short"))
    assert json.loads((tmp_path / STATE_FILE).read_text())["command"] == "short"


def test_a_state_of_a_fresh_run_has_no_scores(tmp_path: Path) -> None:
    write_state(tmp_path, state_of())
    read = read_state(tmp_path)
    assert read is not None
    assert (read.steps, read.wall_s, read.last) == (0, 0.0, {})
    assert read.probe_start is None and read.probe_end is None


def test_no_state_where_there_is_no_run(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["", '{"status": "runn', "[1, 2]", "null", "\x00\x00\x00"])
def test_damaged_json_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / STATE_FILE).write_text(damage)
    with pytest.raises(RecordError, match=r"run\.json: not the state of a run .*another --out"):
        read_state(tmp_path)


def test_half_a_state_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, state_of())
    whole = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match="not the state of a run"):
        read_state(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(b"\xff\xfe\x80")
    with pytest.raises(RecordError, match="not the state of a run"):
        read_state(tmp_path)


@pytest.mark.parametrize("field", ["status", "recipe", "pictures_sha256", "processes"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    content = state_of().model_dump(mode="json")
    del content[field]
    (tmp_path / STATE_FILE).write_text(json.dumps(content))
    with pytest.raises(RecordError, match=rf"\({field} Field required\)"):
        read_state(tmp_path)


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    content = state_of().model_dump(mode="json") | {"status": "paused"}
    (tmp_path / STATE_FILE).write_text(json.dumps(content))
    with pytest.raises(RecordError, match="status Input should be 'running', 'stopped'"):
        read_state(tmp_path)


def test_the_same_run_passes_even_after_a_round_trip(tmp_path: Path) -> None:
    recipe = small_recipe()
    write_state(tmp_path, state_of(recipe))
    read = read_state(tmp_path)
    assert read is not None
    require_same_run(read, recipe, PICTURES, tmp_path)
    moved = PictureList(Path("/elsewhere"), PICTURES.names)
    require_same_run(read, recipe, moved, tmp_path)


def test_settings_that_do_not_alter_the_weights_may_change(tmp_path: Path) -> None:
    other = small_recipe(run__log_every=7, run__watch_every=9, run__save_every=11, run__probe_k=3)
    require_same_run(state_of(), other, PICTURES, tmp_path)


def test_another_recipe_is_refused_with_what_changed(tmp_path: Path) -> None:
    other = small_recipe(criterion__alpha=0.5, optimizer__base_lr=0.01)
    with pytest.raises(ConfigError) as caught:
        require_same_run(state_of(), other, PICTURES, tmp_path)
    message = str(caught.value)
    assert f"{tmp_path} holds a run of another recipe" in message
    assert "criterion.alpha: 0.75 before, 0.5 now" in message
    assert "optimizer.base_lr: 0.003 before, 0.01 now" in message
    assert "seed" not in message


def test_a_recipe_of_an_older_version_is_another(tmp_path: Path) -> None:
    state = state_of()
    del state.recipe["criterion"]["temperature"]
    with pytest.raises(ConfigError, match=r"criterion\.temperature: None before, 0\.1 now"):
        require_same_run(state, small_recipe(), PICTURES, tmp_path)


@pytest.mark.parametrize(
    "names",
    [("a/0.png", "a/1.png"), ("a/0.png", "a/1.png", "b/1.png"), ("a/1.png", "a/0.png", "b/0.png")],
)
def test_other_pictures_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    pictures = PictureList(Path("/data"), names)
    message = f"over 3 other pictures than the {len(names)} in /data: use another --out"
    with pytest.raises(DataError, match=message):
        require_same_run(state_of(), small_recipe(), pictures, tmp_path)


def checkpoint(work: Path, step: int) -> Path:
    path = work / f"iter_{step}.pth"
    torch.save({"weight": torch.full((100,), float(step))}, path)
    return path


def test_the_latest_checkpoint_is_that_of_the_highest_number(tmp_path: Path) -> None:
    for step in (9, 10, 2):
        checkpoint(tmp_path, step)
    assert latest_checkpoint(tmp_path) == tmp_path / "iter_10.pth"
    checkpoint(tmp_path, 100)
    assert latest_checkpoint(tmp_path) == tmp_path / "iter_100.pth"


def test_half_written_checkpoints_are_passed_over(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    for step, share in ((10, 0.9), (11, 0.5), (12, 0.0)):
        path = checkpoint(tmp_path, step)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
    found = latest_checkpoint(tmp_path)
    assert found == tmp_path / "iter_9.pth"
    assert zipfile.is_zipfile(found)


def test_no_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None
    (tmp_path / "last_checkpoint").write_text("iter_3.pth")
    (tmp_path / "iter_3.pth").write_bytes(b"PK\x03\x04 and no more")
    assert latest_checkpoint(tmp_path) is None


def test_other_files_beside_the_checkpoints_are_passed_over(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "iter_5.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "iter_9_copy.pth")
    assert latest_checkpoint(tmp_path) == tmp_path / "iter_5.pth"
