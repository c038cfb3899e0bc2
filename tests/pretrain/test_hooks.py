"""The hooks by themselves, with made-up runners and clocks."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner.priority import get_priority
from torch import nn

from pretrain import hooks
from pretrain.augment import NORMALISATION
from pretrain.hooks import (
    LOG_COLUMNS,
    Log,
    LogHook,
    ProbeHook,
    RateHook,
    StateHook,
    UnreadableHook,
    bare,
)
from pretrain.optim import learning_rate
from pretrain.pictures import PictureList
from pretrain.probe import ProbeData, ProbeScores
from pretrain.recipe import Recipe
from pretrain.trainee import DivergedError, Trainee, Watched
from tests.pretrain.conftest import small_recipe
from tests.reporter import Silent
from vicregl_bench.errors import DataError


class Clock:
    """A clock that goes on when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture()
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("pretrain.hooks.time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture(scope="module")
def trainee() -> Trainee:
    torch.manual_seed(0)
    return Trainee(small_recipe(), "cpu")


class Visualizer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.scalars: list[tuple[int, dict[str, float]]] = []

    def add_scalars(self, row: dict[str, float], step: int) -> None:
        self.scalars.append((step, row))


def fake_runner(model: Any = None, iteration: int = 0, max_iters: int = 100) -> Any:
    groups = [{"lr": -1.0}, {"lr": -1.0}]
    return SimpleNamespace(
        iter=iteration,
        max_iters=max_iters,
        model=model,
        visualizer=Visualizer(),
        optim_wrapper=SimpleNamespace(optimizer=SimpleNamespace(param_groups=groups)),
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# ---- bare


def test_bare_looks_into_a_wrapper(trainee: Trainee) -> None:
    assert bare(trainee) is trainee
    wrapped = nn.Module()
    wrapped.module = trainee
    assert bare(wrapped) is trainee


# ---- Log


def filled(path: Path, steps: int) -> Log:
    log = Log(path, LOG_COLUMNS, 0)
    for step in range(steps + 1):
        log.add({"step": step, "loss": step / 4})
    return log


def test_a_row_leaves_empty_what_it_does_not_name(tmp_path: Path) -> None:
    filled(tmp_path / "log.csv", 1)
    assert (tmp_path / "log.csv").read_bytes().startswith(b"step,epoch,lr,loss,")
    found = rows(tmp_path / "log.csv")
    empty = dict.fromkeys(LOG_COLUMNS, "")
    assert found == [
        empty | {"step": "0", "loss": "0.0"},
        empty | {"step": "1", "loss": "0.25"},
    ]


def test_rows_up_to_the_resumed_step_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    filled(path, 12)
    log = Log(path, LOG_COLUMNS, 10)
    assert [row["step"] for row in rows(path)] == [str(k) for k in range(11)]
    assert [float(row["loss"]) for row in rows(path)] == [k / 4 for k in range(11)]
    log.add({"step": 11, "loss": 99.0})
    assert rows(path)[-1]["step"] == "11" and rows(path)[-1]["loss"] == "99.0"
    assert len(rows(path)) == 12


def test_a_whole_file_survives_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    filled(path, 5)
    whole = path.read_bytes()
    Log(path, LOG_COLUMNS, 5)
    assert path.read_bytes() == whole
    Log(path, LOG_COLUMNS, 50)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("left", range(1, 22))
def test_a_half_written_line_is_dropped(tmp_path: Path, left: int) -> None:
    """However many characters of `3,,,0.75,` and its empty columns were written."""
    path = tmp_path / "log.csv"
    filled(path, 3)
    whole = path.read_bytes()
    line = whole.rstrip().rpartition(b"\r\n")[2]
    assert len(line) == len("3,,,0.75") + 14
    path.write_bytes(whole[: -len(line) - 2] + line[:left])
    log = Log(path, LOG_COLUMNS, 3)
    assert [row["step"] for row in rows(path)] == ["0", "1", "2"]
    log.add({"step": 3, "loss": 0.75})
    assert path.read_bytes() == whole


def test_a_line_that_is_no_row_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    filled(path, 2)
    commas = "," * (len(LOG_COLUMNS) - 1)
    with path.open("a", newline="") as stream:
        stream.write(f"{commas}\r\n-1{commas}\r\nnan{commas}\r\n\r\n2.5{commas}\r\n")
    Log(path, LOG_COLUMNS, 9)
    assert [row["step"] for row in rows(path)] == ["0", "1", "2"]


def test_a_fresh_run_begins_a_fresh_file(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    filled(path, 5)
    Log(path, LOG_COLUMNS, 0)
    assert rows(path) == []


def test_columns_of_an_older_version_stay_empty_or_go(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss,gone\n1,0.5,7\n2,0.25,8\n")
    Log(path, ["step", "loss", "new"], 1)
    assert rows(path) == [{"step": "1", "loss": "0.5", "new": ""}]


def test_the_old_file_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    filled(path, 5)
    whole = path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vicregl_bench.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Log(path, LOG_COLUMNS, 3)
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


# ---- RateHook


def expected_rate(recipe: Recipe, step: int, total: int, warmup: int) -> float:
    return learning_rate(
        step,
        base_lr=recipe.optimizer.base_lr,
        batch_size=recipe.schedule.batch_size,
        end_lr_ratio=recipe.schedule.end_lr_ratio,
        total_steps=total,
        warmup_steps=warmup,
    )


@pytest.mark.parametrize(
    ("accumulate", "steps_per_epoch", "total", "warmup"),
    [(1, 8, 16, 4), (2, 8, 8, 2), (4, 8, 4, 1), (2, 7, 7, 2), (3, 7, 4, 1)],
)
def test_the_rate_is_that_of_the_schedule(
    accumulate: int, steps_per_epoch: int, total: int, warmup: int
) -> None:
    recipe = small_recipe(run__accumulate=accumulate, run__save_every=12)
    hook = RateHook(recipe, steps_per_epoch)
    for iteration in range(2 * steps_per_epoch + 1):
        step = min(iteration // accumulate, total)
        assert hook.rate(iteration) == expected_rate(recipe, step, total, warmup), iteration
    assert hook.rate(0) == 0.0
    peak = 0.003 * 4 / 256
    assert hook.rate(warmup * accumulate) == pytest.approx(peak)
    assert hook.rate(total * accumulate) == pytest.approx(0.01 * peak)


def test_all_parts_of_a_step_have_its_rate() -> None:
    hook = RateHook(small_recipe(run__accumulate=2, run__save_every=4), 8)
    rates = [hook.rate(k) for k in range(16)]
    assert rates[::2] == rates[1::2]
    assert len(set(rates)) == 8


def test_a_warm_up_that_rounds_to_the_whole_run_is_cut() -> None:
    hook = RateHook(small_recipe(schedule__epochs=1, schedule__warmup_epochs=0.9), 2)
    assert (hook.total, hook.warmup) == (2, 1)
    assert hook.rate(1) == pytest.approx(0.003 * 4 / 256)


def test_every_group_gets_the_rate_before_mmengine_notes_it() -> None:
    hook = RateHook(small_recipe(), 5)
    runner = fake_runner(iteration=7)
    hook.before_train_iter(runner, 0)
    assert [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups] == [
        hook.rate(7)
    ] * 2
    assert get_priority(hook.priority) < get_priority("VERY_HIGH")  # RuntimeInfoHook's


# ---- LogHook


class Saver(CheckpointHook):  # type: ignore[misc]
    """Takes its time after every step, with the priority of the hook that saves."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def before_train(self, runner: Any) -> None:
        pass

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        self.clock.now += self.seconds


class Loop:
    """mmengine's loop over hooks in the order of their priorities, by a made-up clock."""

    def __init__(self, used: list[Hook], runner: Any, clock: Clock) -> None:
        self.hooks = sorted(used, key=lambda hook: get_priority(hook.priority))
        self.runner, self.clock = runner, clock
        for hook in self.hooks:
            hook.before_train(runner)

    def step(self, *, loading: float, training: float, outputs: dict[str, Any]) -> None:
        self.clock.now += loading
        for hook in self.hooks:
            hook.before_train_iter(self.runner, self.runner.iter, {})
        self.clock.now += training
        for hook in self.hooks:
            hook.after_train_iter(self.runner, self.runner.iter, {}, outputs)
        self.runner.iter += 1


OUTPUTS = {"loss": torch.tensor(2.5), "global_invariance": torch.tensor(0.5)}


@pytest.mark.parametrize("saving", [0.0, 10.0])
def test_saving_counts_neither_as_loading_nor_as_training(
    tmp_path: Path, clock: Clock, saving: float
) -> None:
    recipe = small_recipe(run__log_every=3, run__watch_every=1000)
    log = Log(tmp_path / "log.csv", LOG_COLUMNS, 0)
    hook = LogHook(recipe, log, Silent(), 5)
    # the loop is made in an order that the priorities have to put right
    loop = Loop([Saver(clock, saving), hook.clock, hook], fake_runner(), clock)
    for loading, training in ((1.0, 3.0), (2.0, 5.0), (0.5, 2.5), (0.25, 1.0)):
        loop.step(loading=loading, training=training, outputs=OUTPUTS)
    first, second = rows(tmp_path / "log.csv")
    assert (first["step"], second["step"]) == ("1", "3")
    assert float(first["pictures_per_second"]) == 1.0  # 4 in 1 + 3 seconds
    assert float(first["loading_share"]) == 0.25
    assert float(second["pictures_per_second"]) == 0.8  # 8 in 2.5 + 7.5 seconds
    assert float(second["loading_share"]) == 0.25
    assert (first["epoch"], second["epoch"]) == ("0.2", "0.6")


def test_the_share_is_of_the_steps_since_the_last_row(tmp_path: Path, clock: Clock) -> None:
    recipe = small_recipe(run__log_every=2, run__watch_every=1000)
    log = Log(tmp_path / "log.csv", LOG_COLUMNS, 0)
    hook = LogHook(recipe, log, Silent(), 5)
    loop = Loop([hook, Saver(clock, 100.0), hook.clock], fake_runner(), clock)
    for loading, training in ((0.0, 1.0), (3.0, 1.0), (0.0, 4.0), (0.0, 4.0)):
        loop.step(loading=loading, training=training, outputs=OUTPUTS)
    found = rows(tmp_path / "log.csv")
    assert [row["step"] for row in found] == ["1", "2", "4"]
    assert [float(row["loading_share"]) for row in found] == [0.0, 0.75, 0.0]
    assert [float(row["pictures_per_second"]) for row in found] == [4.0, 1.0, 1.0]


def test_what_precedes_the_first_step_is_not_loading(tmp_path: Path, clock: Clock) -> None:
    """A probe of the first weights takes its time in before_train, ahead of the clock's start."""

    class Prober(Hook):  # type: ignore[misc]
        priority = ProbeHook.priority

        def before_train(self, runner: Any) -> None:
            clock.now += 60.0

    log = Log(tmp_path / "log.csv", LOG_COLUMNS, 0)
    hook = LogHook(small_recipe(run__watch_every=1000), log, Silent(), 5)
    loop = Loop([hook.clock, Prober(), hook], fake_runner(), clock)
    loop.step(loading=1.0, training=1.0, outputs=OUTPUTS)
    assert float(rows(tmp_path / "log.csv")[0]["loading_share"]) == 0.5


def test_a_part_of_an_accumulated_step_has_its_own_pictures(tmp_path: Path, clock: Clock) -> None:
    recipe = small_recipe(
        run__accumulate=2, run__save_every=4, run__log_every=2, run__watch_every=1000
    )
    log = Log(tmp_path / "log.csv", LOG_COLUMNS, 0)
    hook = LogHook(recipe, log, Silent(), 10)
    loop = Loop([hook, hook.clock], fake_runner(), clock)
    for _ in range(2):
        loop.step(loading=0.0, training=1.0, outputs=OUTPUTS)
    found = rows(tmp_path / "log.csv")
    assert [float(row["pictures_per_second"]) for row in found] == [2.0, 2.0]


def test_a_row_holds_terms_rate_and_watch(tmp_path: Path, clock: Clock, trainee: Trainee) -> None:
    recipe = small_recipe(run__log_every=100, run__watch_every=2)
    log = Log(tmp_path / "log.csv", LOG_COLUMNS, 0)
    reporter_steps: list[tuple[str, int]] = []
    reporter = Silent(lambda name, done: reporter_steps.append((name, done)))
    hook = LogHook(recipe, log, reporter, 5)
    runner = fake_runner(trainee, max_iters=3)
    runner.optim_wrapper.optimizer.param_groups[0]["lr"] = 0.125
    generator = torch.Generator().manual_seed(0)
    even = torch.randn(64, 20, generator=generator)
    loop = Loop([hook, hook.clock], runner, clock)
    trainee.watched = Watched(even, None)
    for _ in range(3):
        loop.step(loading=1.0, training=1.0, outputs=OUTPUTS)
    found = rows(tmp_path / "log.csv")
    assert [row["step"] for row in found] == ["1", "2", "3"]  # the first, the watched, the last
    assert [row["representation_std"] != "" for row in found] == [False, True, True]
    assert float(found[1]["representation_std"]) == pytest.approx(1.0, abs=0.1)
    assert found[1]["embedding_std"] == ""
    assert {row["loss"] for row in found} == {"2.5"} and {row["lr"] for row in found} == {"0.125"}
    assert reporter_steps == [("pretraining", 1), ("pretraining", 2), ("pretraining", 3)]
    shown = {"epoch", "pictures_per_second", "loading_share"}
    assert [(step, set(row)) for step, row in runner.visualizer.scalars] == [
        (1, shown),
        (2, shown | {"representation_std", "representation_correlation"}),
        (3, shown | {"representation_std", "representation_correlation"}),
    ]
    assert hook.last["step"] == 3 and hook.last["loss"] == 2.5


def test_a_collapse_is_told_again_only_after_it_had_gone(clock: Clock, trainee: Trainee) -> None:
    reporter = Silent()
    hook = LogHook(small_recipe(run__watch_every=1), None, reporter, 5)
    loop = Loop([hook, hook.clock], fake_runner(trainee), clock)
    point = Watched(torch.ones(8, 6), torch.ones(8, 6))
    even = Watched(torch.randn(64, 6, generator=torch.Generator().manual_seed(0)), None)
    told = []
    for watched in (even, point, point, even, point):
        trainee.watched = watched
        loop.step(loading=0.0, training=1.0, outputs=OUTPUTS)
        told.append(len(reporter.warnings))
    assert told == [0, 1, 1, 1, 2]
    assert "representations collapse" in reporter.warnings[0]
    assert "embeddings collapse" in reporter.warnings[0]


# ---- UnreadableHook


def unreadable(hook: UnreadableHook, *names: str) -> None:
    hook.before_train_iter(fake_runner(), 0, {"unreadable": list(names)})


def test_an_unreadable_picture_is_named_once(tmp_path: Path) -> None:
    path, told = tmp_path / "unreadable.txt", Silent()
    hook = UnreadableHook(path, 5, told.warn)
    unreadable(hook)
    assert told.warnings == [] and not path.exists()
    unreadable(hook, "b/1.png", "a/ü.png")
    unreadable(hook, "b/1.png")
    unreadable(hook, "b/1.png", "b/0.png")
    assert told.warnings == [
        "a/ü.png cannot be read and is skipped (2 so far)",
        "b/1.png cannot be read and is skipped (2 so far)",
        "b/0.png cannot be read and is skipped (3 so far)",
    ]
    assert path.read_text(encoding="utf-8") == "a/ü.png\nb/0.png\nb/1.png\n"


@pytest.mark.parametrize("most", [0, 2])
def test_too_many_stop_the_run(tmp_path: Path, most: int) -> None:
    path, told = tmp_path / "unreadable.txt", Silent()
    hook = UnreadableHook(path, most, told.warn)
    for k in range(most):  # as many as are allowed pass
        unreadable(hook, f"{k}.png")
    with pytest.raises(DataError, match=f"{most + 1} pictures cannot be read, {most} are allowed"):
        unreadable(hook, "last.png")
    assert "last.png" in path.read_text().splitlines()
    assert len(told.warnings) == most + 1


def test_the_list_is_read_on_resume(tmp_path: Path) -> None:
    path, told = tmp_path / "unreadable.txt", Silent()
    before = UnreadableHook(path, 3, told.warn)
    unreadable(before, "a.png", "b.png")
    told.warnings.clear()
    hook = UnreadableHook(path, 3, told.warn)
    assert hook.names == {"a.png", "b.png"}
    unreadable(hook, "a.png", "b.png")
    assert told.warnings == []
    unreadable(hook, "c.png")
    assert told.warnings == ["c.png cannot be read and is skipped (3 so far)"]
    with pytest.raises(DataError, match="4 pictures cannot be read, 3 are allowed"):
        unreadable(hook, "d.png")
    assert path.read_text() == "a.png\nb.png\nc.png\nd.png\n"


def test_the_limit_holds_when_the_command_is_given_again(tmp_path: Path) -> None:
    path = tmp_path / "unreadable.txt"
    with pytest.raises(DataError):
        unreadable(UnreadableHook(path, 0, Silent().warn), "a.png")
    with pytest.raises(DataError, match="1 pictures cannot be read, 0 are allowed"):
        unreadable(UnreadableHook(path, 0, Silent().warn), "a.png")


# ---- StateHook


def saved_and_loaded(checkpoint: dict[str, Any]) -> dict[str, Any]:
    stream = io.BytesIO()
    torch.save(checkpoint, stream)
    stream.seek(0)
    loaded: dict[str, Any] = torch.load(stream, weights_only=False)
    return loaded


@pytest.fixture()
def random_state() -> Iterator[None]:
    before = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(before)


def test_random_draws_after_saving_are_undone(random_state: None) -> None:
    torch.manual_seed(3)
    torch.rand(7)
    checkpoint: dict[str, Any] = {"state_dict": {"weight": torch.ones(3)}}
    StateHook().before_save_checkpoint(fake_runner(), checkpoint)
    expected = torch.rand(5)
    torch.randn(100)
    StateHook().after_load_checkpoint(fake_runner(), saved_and_loaded(checkpoint))
    assert torch.equal(torch.rand(5), expected)


def test_a_checkpoint_without_states_leaves_the_generator_alone(random_state: None) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    hook = StateHook()
    hook.after_load_checkpoint(fake_runner(), {"state_dict": {}})
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_time_of_earlier_parts_is_carried_over(clock: Clock) -> None:
    checkpoint: dict[str, Any] = {"state_dict": {}}
    first = StateHook()
    clock.now += 30.0
    first.before_save_checkpoint(fake_runner(), checkpoint)
    assert checkpoint["wall_s"] == 30.0
    clock.now += 500.0  # lost: past the checkpoint
    second = StateHook()
    clock.now += 2.0
    second.after_load_checkpoint(fake_runner(), saved_and_loaded(checkpoint))
    clock.now += 3.0
    assert second.wall_s == 35.0
    second.before_save_checkpoint(fake_runner(), checkpoint)
    clock.now += 10.0
    third = StateHook()
    third.after_load_checkpoint(fake_runner(), checkpoint)
    assert third.wall_s == 35.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_not_saved(value: float) -> None:
    state = {"sound": torch.ones(4), "count": torch.tensor(3), "sick": torch.ones(2, 3)}
    state["sick"][1, 2] = value
    checkpoint: dict[str, Any] = {"state_dict": state}
    with pytest.raises(DivergedError, match=r"^sick is not finite$"):
        StateHook().before_save_checkpoint(fake_runner(), checkpoint)
    state["sick"][1, 2] = 0.0
    StateHook().before_save_checkpoint(fake_runner(), checkpoint)
    assert checkpoint["wall_s"] >= 0.0


def test_infinities_of_both_signs_do_not_cancel() -> None:
    state = {"sick": torch.tensor([float("inf"), -float("inf")])}
    with pytest.raises(DivergedError, match="sick"):
        StateHook().before_save_checkpoint(fake_runner(), {"state_dict": state})


# ---- ProbeHook


class Scores:
    """Stands for probe.score: scores that count up, and the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[nn.Module, dict[str, Any]]] = []

    def __call__(self, backbone: nn.Module, data: ProbeData, **options: Any) -> ProbeScores:
        options["on_progress"](5)
        self.calls.append((backbone, {"data": data} | options))
        return ProbeScores(knn=10.006 * len(self.calls), linear=20.006 * len(self.calls))


@pytest.fixture()
def scores(monkeypatch: pytest.MonkeyPatch) -> Scores:
    scores = Scores()
    monkeypatch.setattr(hooks, "score", scores)
    return scores


DATA = ProbeData(
    PictureList(Path("/probe"), ("a/0.png", "b/0.png", "b/1.png")),
    PictureList(Path("/probe"), ("a/1.png", "b/2.png")),
)


def probe_hook(log: Log | None = None, every: int = 0) -> ProbeHook:
    recipe = small_recipe(run__probe_every=every, run__probe_k=7)
    return ProbeHook(recipe, DATA, log, Silent())


def train(hook: ProbeHook, runner: Any) -> None:
    """As mmengine's loop calls it."""
    hook.before_train(runner)
    while runner.iter < runner.max_iters:
        hook.after_train_iter(runner, runner.iter)
        runner.iter += 1
    hook.after_train(runner)


@pytest.mark.parametrize(
    ("every", "max_iters", "scored"),
    [
        (0, 4, [0, 4]),
        (2, 4, [0, 2, 4]),
        (2, 5, [0, 2, 4, 5]),
        (4, 4, [0, 4]),
        (9, 4, [0, 4]),
    ],
)
def test_scores_at_the_start_at_intervals_and_at_the_end(
    tmp_path: Path,
    trainee: Trainee,
    scores: Scores,
    every: int,
    max_iters: int,
    scored: list[int],
) -> None:
    hook = probe_hook(Log(tmp_path / "log.csv", LOG_COLUMNS, 0), every)
    runner = fake_runner(trainee, max_iters=max_iters)
    train(hook, runner)
    found = rows(tmp_path / "log.csv")
    assert [int(row["step"]) for row in found] == scored
    assert [step for step, _ in runner.visualizer.scalars] == scored
    assert [float(row["knn"]) for row in found] == [
        round(10.006 * (k + 1), 2) for k in range(len(scored))
    ]
    assert all(row["loss"] == "" for row in found)
    assert hook.first == ProbeScores(10.006, 20.006)
    assert hook.latest is not None
    assert hook.latest.linear == pytest.approx(20.006 * len(scored))


def test_the_first_backbone_is_scored_as_the_recipe_says(trainee: Trainee, scores: Scores) -> None:
    done: list[tuple[str, int]] = []
    hook = probe_hook()
    hook.reporter = Silent(lambda name, count: done.append((name, count)))
    hook.before_train(fake_runner(trainee))
    (backbone, options), *_ = scores.calls
    assert backbone is trainee.network.first.backbone
    assert options["data"] is DATA
    assert (options["size"], options["k"]) == (64, 7)
    assert options["normalisation"] == NORMALISATION["paper"]
    assert done == [("probe at step 0", 5)]


def test_the_first_scores_go_with_the_state(trainee: Trainee, scores: Scores) -> None:
    hook = probe_hook()
    hook.before_train(fake_runner(trainee))
    checkpoint: dict[str, Any] = {}
    hook.before_save_checkpoint(fake_runner(trainee), checkpoint)
    assert checkpoint == {"probe_start": {"knn": 10.006, "linear": 20.006}}
    resumed = probe_hook()
    runner = fake_runner(trainee, iteration=3, max_iters=4)
    resumed.after_load_checkpoint(runner, saved_and_loaded(checkpoint))
    train(resumed, runner)
    assert resumed.first == ProbeScores(10.006, 20.006)  # of the start, not of step 3
    assert resumed.latest == ProbeScores(20.012, 40.012)
    assert len(scores.calls) == 2


@pytest.mark.parametrize("every", [0, 2])
def test_a_run_resumed_at_its_end_is_scored_there(
    trainee: Trainee, scores: Scores, every: int
) -> None:
    hook = probe_hook(every=every)
    hook.after_load_checkpoint(fake_runner(trainee), {"probe_start": None})
    train(hook, fake_runner(trainee, iteration=4, max_iters=4))
    assert hook.first is None
    assert hook.latest == ProbeScores(10.006, 20.006)
    assert len(scores.calls) == 1


def test_a_state_without_scores(trainee: Trainee, scores: Scores) -> None:
    hook = probe_hook()
    checkpoint: dict[str, Any] = {}
    hook.before_save_checkpoint(fake_runner(trainee), checkpoint)
    assert checkpoint == {"probe_start": None}
    hook.after_load_checkpoint(fake_runner(trainee), {})
    assert hook.first is None and scores.calls == []


def test_only_the_first_process_scores(
    trainee: Trainee, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "rank", lambda: 1)
    hook = probe_hook()
    train(hook, fake_runner(trainee, max_iters=2))
    assert scores.calls == [] and hook.first is None and hook.latest is None
