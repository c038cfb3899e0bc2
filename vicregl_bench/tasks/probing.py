"""What scores frozen features and learns, if at all, from features, not batches of pictures."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.errors import RecordError, RunInterruptedError
from vicregl_bench.features.cache import FeatureCache, Pictures
from vicregl_bench.features.extractor import Extractor
from vicregl_bench.features.shards import Features
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.domain import Data, Domain
from vicregl_bench.tasks.measured import Scores, join_scores
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.run_result import RunResult, load_result, save_result


@dataclass(frozen=True)
class Probing:
    """What a probe is computed of, and what keeps its parts.

    Attributes:
        trunk: the frozen backbone.
        device: where it is, and where heavy work belongs.
        train: pictures to learn from.
        holdout: the slice of train that chooses; empty where val does.
        val: pictures to score.
        keep: val pictures whose predictions are kept.
        workers: data loading processes.
        reporter: of the progress.
        stopped: whether the run is asked to stop.
        cache: of features; every run into one folder of records shares it.
        points: folder of what is done of the grid, of these files of pictures, code and device.
        outcome: class of the domain's outcomes.
        done: points that are scored.
        diverged: those of them that have no scores.
    """

    trunk: FrozenTrunk
    device: torch.device
    train: Sequence[Any]
    holdout: Sequence[Any]
    val: Sequence[Any]
    keep: Sequence[Any]
    workers: int
    reporter: Reporter
    stopped: Callable[[], bool]
    cache: FeatureCache
    points: Path
    outcome: type[Outcome]
    done: set[HeadSpec] = field(default_factory=set)
    diverged: set[HeadSpec] = field(default_factory=set)

    def check_stop(self) -> None:
        """Stop where that is asked for; called between parts of a few seconds.

        Raises:
            RunInterruptedError: asked to stop.
        """
        if self.stopped():
            raise RunInterruptedError("stopped")

    def features(self, extractor: Extractor, pictures: Pictures, stage: str) -> Features:
        """Features (N, D) of pictures, from the cache as far as it has them.

        Raises:
            RunInterruptedError: asked to stop; what is whole stays in the cache.
            DataError: a picture is missing or cannot be read.
        """
        return self.cache.extract(
            extractor,
            pictures,
            reporter=self.reporter,
            check_stop=self.check_stop,
            stage=stage,
            workers=self.workers,
        )

    def point(self, head: HeadSpec, make: Callable[[], Scores]) -> Scores:
        """The scores of one point of the grid, kept so that a resumed run has them.

        A file that cannot be read is made anew. A point without scores has diverged.
        """
        path = self.points / f"{_name(head)}.npz"
        try:
            scores = load_result(path, head, self.outcome).scores
        except (FileNotFoundError, RecordError):
            self.check_stop()
            scores = make()
            path.parent.mkdir(parents=True, exist_ok=True)
            save_result(path, RunResult(head, -1, scores))
        self.done.add(head)
        if scores.val is None:
            self.diverged.add(head)
        return scores

    def together(self, heads: Sequence[HeadSpec], make: Callable[[HeadSpec], Scores]) -> Scores:
        """The scores of all points, each by `point`."""
        update = self.reporter.stage("fitting", len(heads))
        each = []
        for head in heads:
            each.append(self.point(head, partial(make, head)))
            update(len(each))
        return join_scores(self.outcome, each)


class ProbeDomain(Domain[Data]):
    """The own part of a run that learns, if at all, from features, not from batches of pictures."""

    keeps: ClassVar[bool] = False
    shares: ClassVar[bool] = False
    """Whether `share` does anything."""

    @abstractmethod
    def heads(self) -> tuple[HeadSpec, ...]:
        """The points of the grid, in the order of the record; a search knows them after `probe`."""

    def share(self, probing: Probing) -> None:
        """Do, with the process that has the run, what processes with the same run do together."""

    @abstractmethod
    def probe(self, probing: Probing) -> Scores:
        """Scores of every point, in the order of `heads`.

        Raises:
            RunInterruptedError: asked to stop.
        """


def _name(head: HeadSpec) -> str:
    options = "-".join(f"{name}{value!r}" for name, value in head.options)
    return f"{options or 'only'}-lr{head.lr!r}-seed{head.seed}".replace("'", "")
