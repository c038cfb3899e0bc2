"""Whole runs on made-up pictures: what they leave, resuming, and every way to go wrong."""

import csv
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain import train as module
from pretrain.recipe import Recipe
from pretrain.train import PretrainOutcome, PretrainRequest, latest_checkpoint, pretrain
from pretrain.trainee import DivergedError, Trainee
from tests.pretrain.conftest import SMALL, small_recipe
from tests.reporter import Silent
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.errors import ConfigError, DataError, RecordError, RunInterruptedError


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, so that runs can be compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(
    pictures: Path, out: Path, recipe: Recipe | None = None, reporter: Any = None, **more: Any
) -> PretrainOutcome:
    request = PretrainRequest(
        recipe=recipe or small_recipe(), data=pictures, out=out, device="cpu", workers=0, **more
    )
    return pretrain(request, reporter or Silent())


def weights(out: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(out / "model.pth")["state_dict"]
    return state


def assert_same(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_run_leaves_checkpoints_that_the_suite_takes(pictures: Path, tmp_path: Path) -> None:
    reporter = Silent()
    outcome = run(pictures, tmp_path / "run", reporter=reporter, probe=pictures)
    assert (outcome.state.steps, outcome.state.pictures, outcome.skipped) == (10, 20, False)
    source = read_backbone(str(outcome.backbone))
    assert (source.arch, source.card.method) == ("resnet18", "vicregl")
    assert source.card.std == pytest.approx((58.395, 57.12, 57.375))
    state = weights(tmp_path / "run")
    key = "layer1.0.conv1.weight"
    assert torch.equal(source.state_dict[key], state[f"first.backbone.{key}"])
    released = read_backbone(str(tmp_path / "run" / "released.pth"))
    assert released.weights_sha256 == source.weights_sha256
    assert released.card.method == "vicregl"
    logged = rows(tmp_path / "run")
    assert [row["step"] for row in logged if row["loss"]] == [str(k) for k in range(1, 11)]
    assert all(0 < float(row["representation_std"]) < 2 for row in logged[2::2] if row["loss"])
    assert [row["step"] for row in logged if row["knn"]] == ["0", "10"]
    assert outcome.state.probe_start is not None and outcome.state.probe_end is not None
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_the_rate_follows_the_recipe(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "run")
    rates = [float(row["lr"]) for row in rows(tmp_path / "run")]
    peak = 0.003 * 4 / 256
    # warm-up of half an epoch is two steps (2.5, rounded to even)
    assert rates[:3] == pytest.approx([0.0, peak / 2, peak])
    assert all(a > b for a, b in itertools.pairwise(rates[2:]))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    pictures: Path, tmp_path: Path
) -> None:
    run(pictures, tmp_path / "one")
    run(pictures, tmp_path / "two")
    run(pictures, tmp_path / "other", small_recipe(run__seed=1))
    assert_same(tmp_path / "one", tmp_path / "two")
    key = "first.backbone.conv1.weight"
    assert not torch.equal(weights(tmp_path / "one")[key], weights(tmp_path / "other")[key])


def test_alpha_does_not_change_the_first_backbone() -> None:
    torch.manual_seed(0)
    with_local = Trainee(small_recipe(), "cpu").network.first.backbone.state_dict()
    torch.manual_seed(0)
    without = Trainee(small_recipe(criterion__alpha=1), "cpu").network.first.backbone.state_dict()
    assert all(torch.equal(with_local[key], without[key]) for key in with_local)


@pytest.mark.parametrize(
    "changes",
    [
        {"criterion__alpha": 1},
        {"criterion__alpha": 0, "criterion__preset": "released"},
        {"criterion__name": "simclr"},
        {"criterion__name": "barlow_twins", "criterion__alpha": 1},
        {"model__shared": False, "optimizer__type": "LARS"},
        {"model__second_backbone": "resnet34"},
        {"views__small_count": 2, "views__small_size": 40, "model__norm": "layer"},
        {"run__accumulate": 2, "run__save_every": 4, "run__clip_grad": 1.0},
        {"run__precision": "bf16", "criterion__matching": ["feature"]},
    ],
    ids=lambda changes: ",".join(f"{k}={v}" for k, v in changes.items()),
)
def test_every_kind_of_run_trains(pictures: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = small_recipe(**{"schedule__epochs": 1, "schedule__warmup_epochs": 0} | changes)
    outcome = run(pictures, tmp_path / "run", recipe)
    assert (
        outcome.state.steps
        == len(rows(tmp_path / "run"))
        == (10 if "run__accumulate" in changes else 5)
    )
    state = weights(tmp_path / "run")
    torch.manual_seed(0)
    begun = Trainee(recipe, "cpu").network.state_dict()
    moved = [
        key for key in begun if begun[key].ndim == 4 and not torch.equal(begun[key], state[key])
    ]
    assert len(moved) == sum(value.ndim == 4 for value in begun.values())


def test_a_stopped_run_goes_on_to_the_same_weights(pictures: Path, tmp_path: Path) -> None:
    def stop(name: str, done: int) -> None:
        if name == "pretraining" and done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunInterruptedError, match="the same command goes on"):
        run(pictures, tmp_path / "stopped", reporter=Silent(stop))
    state = json.loads((tmp_path / "stopped" / "run.json").read_text())
    assert state["status"] == "stopped" and state["last"]["step"] == 5
    assert latest_checkpoint(tmp_path / "stopped" / "work") is not None
    reporter = Silent()
    run(pictures, tmp_path / "stopped", reporter=reporter)
    assert reporter.warnings == ["going on at step 5 of 10"]
    run(pictures, tmp_path / "whole")
    assert_same(tmp_path / "stopped", tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "stopped")] == [
        row["step"] for row in rows(tmp_path / "whole")
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.pretrain.conftest import small_recipe
from tests.reporter import Silent
from pretrain.train import PretrainRequest, pretrain

def kill(name, done):
    if name == "pretraining" and done == 8:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
data, out = map(Path, sys.argv[1:])
pretrain(PretrainRequest(small_recipe(), data, out, device="cpu", workers=1), Silent(kill))
"""


def test_a_killed_run_goes_on_to_the_same_weights(pictures: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(pictures), str(tmp_path / "killed")]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, cwd=root, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = json.loads((tmp_path / "killed" / "run.json").read_text())
    assert state["status"] == "running"  # killed at step 8, in the middle of the second epoch
    reporter = Silent()
    run(pictures, tmp_path / "killed", reporter=reporter)
    assert reporter.warnings == ["going on at step 6 of 10"]
    run(pictures, tmp_path / "whole")
    assert_same(tmp_path / "killed", tmp_path / "whole")
    one, two = (
        torch.load(tmp_path / out / "model.pth")["optimizer"]["state"]
        for out in ("killed", "whole")
    )
    for k, slot in one.items():
        assert torch.equal(slot["exp_avg"], two[k]["exp_avg"])
        assert torch.equal(slot["exp_avg_sq"], two[k]["exp_avg_sq"])


def test_a_stop_waits_for_the_step_of_the_optimiser(pictures: Path, tmp_path: Path) -> None:
    recipe = small_recipe(run__accumulate=2, run__save_every=4)

    def stop(name: str, done: int) -> None:
        if name == "pretraining" and done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunInterruptedError):
        run(pictures, tmp_path / "stopped", recipe, Silent(stop))
    reporter = Silent()
    run(pictures, tmp_path / "stopped", recipe, reporter)
    assert reporter.warnings == ["going on at step 6 of 20"]
    run(pictures, tmp_path / "whole", recipe)
    assert_same(tmp_path / "stopped", tmp_path / "whole")


def test_a_kill_during_the_last_probe_loses_no_scores(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pretrain import hooks

    original, calls = hooks.score, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(hooks, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "run", probe=pictures)
    state = run(pictures, tmp_path / "run", probe=pictures).state
    assert len(calls) == 3 and state.probe_start is not None and state.probe_end is not None


def test_a_half_written_checkpoint_is_passed_over(pictures: Path, tmp_path: Path) -> None:
    def stop(name: str, done: int) -> None:
        if name == "pretraining" and done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunInterruptedError):
        run(pictures, tmp_path / "run", reporter=Silent(stop))
    newest = tmp_path / "run" / "work" / "iter_7.pth"
    newest.write_bytes(newest.read_bytes()[:10_000])
    reporter = Silent()
    run(pictures, tmp_path / "run", reporter=reporter)
    assert reporter.warnings == ["going on at step 6 of 10"]
    run(pictures, tmp_path / "whole")
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_finished_run_is_not_run_again(pictures: Path, tmp_path: Path) -> None:
    first = run(pictures, tmp_path / "run")
    made = (tmp_path / "run" / "model.pth").stat().st_mtime_ns
    again = run(pictures, tmp_path / "run")
    assert again.skipped and again.state == first.state
    assert (tmp_path / "run" / "model.pth").stat().st_mtime_ns == made


def test_another_recipe_or_other_pictures_are_refused(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"another recipe \(criterion.alpha: 0.75 before, 0.5 now"
    ):
        run(pictures, tmp_path / "run", small_recipe(criterion__alpha=0.5))
    (pictures / "a" / "0.png").unlink()
    with pytest.raises(DataError, match="over 20 other pictures than the 19"):
        run(pictures, tmp_path / "run")


def test_a_folder_without_a_step_is_free(pictures: Path, tmp_path: Path) -> None:
    for k in (3, 4):
        (pictures / "a" / f"{k}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="pictures cannot be read, 0 are allowed"):
        run(pictures, tmp_path / "run")
    for k in (3, 4):
        (pictures / "a" / f"{k}.png").unlink()
    assert run(pictures, tmp_path / "run").state.pictures == 18


def test_train_and_val_are_no_classes(pictures: Path, tmp_path: Path) -> None:
    (pictures / "a").rename(pictures / "train")
    (pictures / "b").rename(pictures / "val")
    with pytest.raises(DataError, match="holds train and val, which are no classes"):
        run(pictures, tmp_path / "run")


def test_out_that_is_a_file(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RecordError, match=r"--out .* cannot be written: File exists"):
        run(pictures, tmp_path / "run")


def test_other_methods_are_not_taken_for_vicregl(pictures: Path, tmp_path: Path) -> None:
    recipe = small_recipe(criterion__name="simclr", views__normalisation="released")
    outcome = run(pictures, tmp_path / "run", recipe)
    for name in ("backbone.pth", "released.pth", "model.pth"):
        source = read_backbone(str(outcome.out / name))
        assert source.card.method == "simclr_l" and source.name == f"run/{name}"
        assert source.card.std[0] == pytest.approx(255 * 0.228)
        assert "criterion.name=simclr" in source.card.note


def test_intervals_may_change_on_resume(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "run")
    assert run(pictures, tmp_path / "run", small_recipe(run__log_every=7)).skipped


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_terms(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.step_of

    calls = []

    def poisoned(model: Any, data: Any, wrapper: Any) -> Any:
        calls.append(1)
        if len(calls) == 8:
            with torch.no_grad():
                next(model.network.first.expander.parameters()).fill_(float("nan"))
        return original(model, data, wrapper)

    monkeypatch.setattr("pretrain.trainee.step_of", poisoned)
    with pytest.raises(DivergedError) as caught:
        run(pictures, tmp_path / "run")
    text = str(caught.value)
    assert "step 8:" in text and "global_invariance nan" in text and "iter_6.pth" in text
    kept = torch.load(tmp_path / "run" / "work" / "iter_6.pth", weights_only=False)["state_dict"]
    assert all(bool(torch.isfinite(value.float()).all()) for value in kept.values())


def test_weights_that_are_not_finite_are_never_saved(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.step_of
    calls = []

    def poisoned(model: Any, data: Any, wrapper: Any) -> Any:
        done = original(model, data, wrapper)
        calls.append(1)
        if len(calls) == 6:
            with torch.no_grad():
                next(model.parameters()).fill_(float("inf"))
        return done

    monkeypatch.setattr("pretrain.trainee.step_of", poisoned)
    with pytest.raises(DivergedError, match=r"step 6: .*conv1.weight is not finite.*iter_3.pth"):
        run(pictures, tmp_path / "run")


def test_unreadable_pictures_are_named_and_skipped_up_to_a_share(
    pictures: Path, tmp_path: Path
) -> None:
    (pictures / "a" / "3.png").write_bytes(b"no picture")
    reporter = Silent()
    run(pictures, tmp_path / "run", small_recipe(data__unreadable=0.05), reporter)
    assert reporter.warnings == ["a/3.png cannot be read and is skipped (1 so far)"]
    assert (tmp_path / "run" / "unreadable.txt").read_text() == "a/3.png\n"
    (pictures / "b" / "4.png").write_bytes((pictures / "b" / "5.png").read_bytes()[:100])
    with pytest.raises(DataError, match=r"2 pictures cannot be read, 1 are allowed .*raise --set"):
        run(pictures, tmp_path / "other", small_recipe(data__unreadable=0.05))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"views__large_size": 96}, DataError, "larger than the pictures .typically 80 px"),
        ({"schedule__batch_size": 64}, DataError, "20 pictures do not fill a batch of 64"),
        ({"run__precision": "fp16"}, ConfigError, "needs CUDA"),
        ({"run__accumulate": 3}, ConfigError, "cannot be dealt out"),
    ],
)
def test_impossible_runs_stop_before_anything_is_written(
    pictures: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        run(pictures, tmp_path / "run", small_recipe(**changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"schedule__batch_size": 1}, "schedule.batch_size"),
        ({"criterion__num_matches": [5, 1]}, "gamma is 5, but a map has 4 cells"),
        ({"criterion__alpha": 1.5}, "criterion.alpha = 1.5"),
        ({"criterion__alhpa": 1}, "near it: criterion.alpha"),
    ],
)
def test_impossible_recipes(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        small_recipe(**changes)


def test_a_full_disk_keeps_the_last_state(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmengine.fileio.backends import LocalBackend

    original = LocalBackend.put

    def full(self: Any, obj: bytes, filepath: str | Path) -> None:
        if "iter_6" in str(filepath):
            Path(filepath).write_bytes(obj[:1000])
            raise OSError(errno.ENOSPC, "No space left on device", str(filepath))
        original(self, obj, filepath)

    monkeypatch.setattr(LocalBackend, "put", full)
    with pytest.raises(RecordError, match="No space left on device; what is there is kept"):
        run(pictures, tmp_path / "run")
    monkeypatch.undo()
    torch.set_num_threads(1)
    reporter = Silent()
    run(pictures, tmp_path / "run", reporter=reporter)
    assert reporter.warnings == ["going on at step 3 of 10"]
    run(pictures, tmp_path / "whole")
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_two_runs_in_one_folder_are_refused(pictures: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(RecordError, match="another process"):
        run(pictures, tmp_path / "run")


def test_a_damaged_state_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"recipe":')
    with pytest.raises(RecordError, match=r"move .* away or use another --out"):
        run(pictures, tmp_path / "run")


def test_a_collapse_is_told_once(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pretrain.watch import Spread

    monkeypatch.setattr("pretrain.hooks.measure", lambda features: Spread(0.01, 0.2))
    reporter = Silent()
    run(pictures, tmp_path / "run", reporter=reporter)
    assert len(reporter.warnings) == 1
    assert "representations collapse: spread 0.010" in reporter.warnings[0]


def test_two_processes_train_as_one_does(pictures: Path, tmp_path: Path) -> None:
    few = {"optimizer.type": "LARS", "optimizer.base_lr": 1.0, "schedule.batch_size": 10}
    few |= {"schedule.epochs": 1, "schedule.warmup_epochs": 0}  # two steps
    words = ["-m", "vicregl_bench", "pretrain", "--recipe", "tiny", "--data", str(pictures)]
    words += ["--out", str(tmp_path / "two"), "--workers", "0", "--device", "cpu", "--json"]
    for key, value in (SMALL | few).items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["steps"] == 2
    recipe = small_recipe(**{key.replace(".", "__"): value for key, value in few.items()})
    run(pictures, tmp_path / "one", recipe)
    # float32: sums over halves differ in the seventh digit, and small batches multiply that from
    # step to step
    losses = [[float(row["loss"]) for row in rows(tmp_path / out)] for out in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    torch.manual_seed(0)
    begun = Trainee(recipe, "cpu").network.state_dict()
    for key, value in one.items():
        if value.is_floating_point():
            moved = float((value - begun[key]).norm())
            # a bias before BatchNorm has no gradient but rounding: hence the floor
            assert float((value - two[key]).norm()) < 1e-2 * moved + 1e-6, key
