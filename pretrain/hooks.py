"""What mmengine calls while it trains: rate, logs, collapse watch, probe, random state."""

import csv
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import nn

from pretrain.augment import NORMALISATION
from pretrain.distributed import rank, union_over_processes
from pretrain.optim import learning_rate
from pretrain.pictures import read_list, write_list
from pretrain.probe import ProbeData, ProbeScores, score
from pretrain.recipe import Recipe
from pretrain.trainee import DivergedError, Trainee
from pretrain.watch import measure
from vicregl_bench.atomic import write_atomic
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.errors import DataError


def bare(model: nn.Module) -> Trainee:
    """The trainee, out of its DDP wrapper."""
    inner = getattr(model, "module", model)
    assert isinstance(inner, Trainee)
    return inner


class RateHook(Hook):  # type: ignore[misc]
    """Sets the learning rate of every step of the optimiser; needs no state of its own."""

    priority = "HIGHEST"  # before mmengine notes the rate for its logs

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.recipe = recipe
        self.accumulate = recipe.run.accumulate
        self.total = recipe.schedule.epochs * steps_per_epoch // self.accumulate
        warmup = recipe.schedule.warmup_epochs * steps_per_epoch / self.accumulate
        self.warmup = min(round(warmup), self.total - 1)

    def rate(self, iteration: int) -> float:
        """Learning rate in an iteration of the loader."""
        return learning_rate(
            min(iteration // self.accumulate, self.total),
            base_lr=self.recipe.optimizer.base_lr,
            batch_size=self.recipe.schedule.batch_size,
            end_lr_ratio=self.recipe.schedule.end_lr_ratio,
            total_steps=self.total,
            warmup_steps=self.warmup,
        )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the rate of every parameter group."""
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] = self.rate(runner.iter)


class Log:
    """One CSV file of a run: a row for every logged step; rows past a resumed step are dropped.

    Args:
        path: of the file.
        columns: of the file.
        resumed_at: step the run goes on from.
    """

    def __init__(self, path: Path, columns: list[str], resumed_at: int) -> None:
        self.path, self.columns = path, columns
        kept: list[dict[str, str]] = []
        if path.exists() and resumed_at:
            lines = path.read_text().splitlines(keepends=True)
            whole = csv.DictReader(line for line in lines if line.endswith("\n"))
            steps = [(row.get("step") or "", row) for row in whole if None not in row.values()]
            kept = [row for step, row in steps if step.isdigit() and int(step) <= resumed_at]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        write_atomic(path, text.getvalue().encode())

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; columns it does not name stay empty."""
        with self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow(row)


LOG_COLUMNS = [
    "step",
    "epoch",
    "lr",
    "loss",
    "global_invariance",
    "global_variance",
    "global_covariance",
    "local_invariance",
    "local_variance",
    "local_covariance",
    "pictures_per_second",
    "loading_share",
    "representation_std",
    "representation_correlation",
    "embedding_std",
    "embedding_correlation",
    "knn",
    "linear",
]
"""Of log.csv; `loading_share` is the part of the time spent waiting for data."""


class ClockHook(Hook):  # type: ignore[misc]
    """Notes when the last hook of a step is done: what follows is waiting for data."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.ended = 0.0

    def before_train(self, runner: Any) -> None:
        """Start."""
        self.ended = time.monotonic()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """The step and everything after it is done."""
        self.ended = time.monotonic()


class LogHook(Hook):  # type: ignore[misc]
    """Progress after every step, a row of log.csv and of TensorBoard every few, and the watch.

    Rates count training steps and waiting for data, not saving and probing.
    """

    priority = "LOW"  # after mmengine's timer

    def __init__(
        self,
        recipe: Recipe,
        log: Log | None,
        reporter: Reporter,
        steps_per_epoch: int,
    ) -> None:
        self.recipe, self.log, self.reporter = recipe, log, reporter
        self._report: Callable[[int], None] | None = None
        self.steps_per_epoch = steps_per_epoch
        self.warned = False
        self.last: dict[str, float] = {}
        self.clock = ClockHook()
        self._waited, self._worked, self._begin, self._count = 0.0, 0.0, 0.0, 0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The batch has come: what went by since the last step was waiting."""
        if self._report is None:
            self._report = self.reporter.stage("pretraining", runner.max_iters)
        self._begin = time.monotonic()
        self._waited += self._begin - self.clock.ended

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Report, log and watch."""
        step = runner.iter + 1
        run = self.recipe.run
        self._count += 1
        self._worked += time.monotonic() - self._begin
        assert self._report is not None
        self._report(step)
        row: dict[str, float] = {}
        if step % run.watch_every == 0 or step == runner.max_iters:
            row |= self._watch(bare(runner.model))
        if row or step % run.log_every == 0 or step == 1:
            spent = self._worked + self._waited
            batch = self.recipe.schedule.batch_size // run.accumulate
            row |= {name: float(value) for name, value in outputs.items()}
            row |= {
                "step": step,
                "epoch": round(step / self.steps_per_epoch, 3),
                "lr": runner.optim_wrapper.optimizer.param_groups[0]["lr"],
                "pictures_per_second": round(batch * self._count / spent, 2),
                "loading_share": round(self._waited / spent, 4),
            }
            self.last |= row
            if self.log is not None:
                self.log.add(row)
                # the terms and the rate are written by mmengine's LoggerHook
                shown = row.keys() - outputs.keys() - {"step", "lr"}
                runner.visualizer.add_scalars({name: row[name] for name in shown}, step=step)
            self._worked, self._waited, self._count = 0.0, 0.0, 0

    def _watch(self, trainee: Trainee) -> dict[str, float]:
        watched = trainee.watched
        if watched is None or len(watched.representation) < 2:
            return {}
        row: dict[str, float] = {}
        collapsed = []
        for name, features in (
            ("representation", watched.representation),
            ("embedding", watched.embedding),
        ):
            if features is not None:
                spread = measure(features)
                row |= {f"{name}_std": spread.std, f"{name}_correlation": spread.correlation}
                if spread.collapsed:
                    collapsed.append(
                        f"{name}s collapse: spread {spread.std:.3f}, "
                        f"correlation {spread.correlation:.3f}"
                    )
        if collapsed and not self.warned:
            self.reporter.warn("; ".join(collapsed) + " (a lower rate or a larger batch may help)")
        self.warned = bool(collapsed)
        return row


class UnreadableHook(Hook):  # type: ignore[misc]
    """Names every unreadable picture once, and stops when there are too many.

    Every process counts those of all processes, and all stop together.

    Args:
        path: file that lists them.
        most: how many are skipped.
        warn: told of each.
    """

    def __init__(self, path: Path, most: int, warn: Callable[[str], None]) -> None:
        self.path, self.most, self.warn = path, most, warn
        self.names: set[str] = set()
        if path.exists():
            self.names = read_list(path)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Look at what the batch had to leave out.

        Raises:
            DataError: more than the share that the recipe skips.
        """
        met = union_over_processes(set(data_batch["unreadable"]))
        if not met:
            return
        new = sorted(met - self.names)
        self.names |= set(new)
        for name in new:
            self.warn(f"{name} cannot be read and is skipped ({len(self.names)} so far)")
        if new and rank() == 0:
            write_list(sorted(self.names), self.path)
        if len(self.names) > self.most:
            raise DataError(
                f"{len(self.names)} pictures cannot be read, {self.most} are allowed (listed in "
                f"{self.path}): "
                "mend or remove them, or raise --set data.unreadable"
            )


class ProbeHook(Hook):  # type: ignore[misc]
    """Scores the backbone on labelled pictures at the start, at intervals and at the end."""

    priority = "VERY_LOW"

    def __init__(
        self, recipe: Recipe, data: ProbeData, log: Log | None, reporter: Reporter
    ) -> None:
        self.recipe, self.data, self.log, self.reporter = recipe, data, log, reporter
        self.first: ProbeScores | None = None
        self.latest: ProbeScores | None = None
        self._scored_at = -1

    def before_train(self, runner: Any) -> None:
        """Score the weights that the run starts with."""
        if runner.iter == 0:
            self.first = self._score(runner, 0)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Score at intervals and at the end."""
        step, every = runner.iter + 1, self.recipe.run.probe_every
        if every and step % every == 0:
            self._score(runner, step)

    def after_train(self, runner: Any) -> None:
        """Score the weights that the run ends with."""
        if self._scored_at != runner.iter:
            self._score(runner, runner.iter)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the first scores with the state."""
        checkpoint["probe_start"] = None if self.first is None else asdict(self.first)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the first scores back."""
        saved = checkpoint.get("probe_start")
        self.first = ProbeScores(**saved) if saved else None

    def _score(self, runner: Any, step: int) -> ProbeScores | None:
        if rank() != 0:  # the others wait at the next step's communication
            return None
        self._scored_at = step
        total = len(self.data.bank.names) + len(self.data.queries.names)
        self.latest = score(
            bare(runner.model).network.first.backbone,
            self.data,
            size=self.recipe.views.large_size,
            normalisation=NORMALISATION[self.recipe.views.normalisation],
            k=self.recipe.run.probe_k,
            on_progress=self.reporter.stage(f"probe at step {step}", total),
        )
        row = {"knn": round(self.latest.knn, 2), "linear": round(self.latest.linear, 2)}
        if self.log is not None:
            self.log.add({"step": step} | row)
            runner.visualizer.add_scalars(row, step=step)
        return self.latest


class StateHook(Hook):  # type: ignore[misc]
    """Keeps random states and the time spent with the state, and weights not finite out of it."""

    def __init__(self) -> None:
        self._earlier, self._begin = 0.0, time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds spent, those of earlier parts of the run up to their last checkpoint included."""
        return self._earlier + time.monotonic() - self._begin

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Check the weights and add the random states.

        Raises:
            DivergedError: a weight is NaN or infinite.
        """
        for name, tensor in checkpoint["state_dict"].items():
            if tensor.is_floating_point() and not math.isfinite(float(tensor.sum())):
                raise DivergedError(f"{name} is not finite")
        checkpoint["wall_s"] = self.wall_s
        checkpoint["random"] = {
            "cpu": torch.random.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the random states back."""
        self._earlier = float(checkpoint.get("wall_s", 0.0))
        states = checkpoint.get("random")
        if states:
            torch.random.set_rng_state(states["cpu"].cpu())
            if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
                torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
