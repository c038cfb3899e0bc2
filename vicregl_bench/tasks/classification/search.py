"""A searched linear probe: rate, decay, optimiser, schedule and epochs chosen on a slice of train.

"Scaling VICReg" (seed 002, section 3.2) sweeps the five over frozen features and does not say how
many points, drawn how, or chosen on what. Here Optuna's TPE sampler (Bergstra et al. 2011) draws
them and the accuracy on a held-out slice of train chooses: the search never sees val.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from vicregl_bench.atomic import write_atomic
from vicregl_bench.data import ClassificationData, split_holdout
from vicregl_bench.features.linear_classifier import LinearClassifier
from vicregl_bench.features.linear_training import Recipe, train_linear
from vicregl_bench.features.scaler import Scaler
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.classification.cached_linear import LabelledFeatures
from vicregl_bench.tasks.classification.domain import WholePictures
from vicregl_bench.tasks.classification.extraction import (
    HELD,
    TRAIN,
    VAL,
    VectorProbe,
    extractor_of,
)
from vicregl_bench.tasks.classification.probe_settings import ProbeSearchSettings, SearchSection
from vicregl_bench.tasks.grid import described
from vicregl_bench.tasks.measured import Scores
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.probing import Probing
from vicregl_bench.tasks.request import RunRequest

TRIALS = "trials.jsonl"
"""File of the trials that are done, in the folder of points."""


@dataclass(frozen=True)
class Trial:
    """One point that was tried, and its accuracy on the slice in percent."""

    params: Mapping[str, float | str]
    score: float


class ProbeSearch(WholePictures, VectorProbe[ClassificationData]):
    """A search for how to train a linear classifier on cached features, and what it finds.

    With `--select val` the slice is `sweep.holdout` of train, and the best trial is trained again
    on all of train. With `--select holdout` the slice is the run's own, stays out of that training
    too, and is scored beside val.
    """

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        self.select = "holdout"
        self._trials: list[Trial] = []
        self._heads = tuple(HeadSpec(None, seed) for seed in range(self.settings.sweep.seeds))

    @property
    def settings(self) -> ProbeSearchSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, ProbeSearchSettings)
        return settings

    def heads(self) -> tuple[HeadSpec, ...]:
        """One a seed of the point found; what it is, they say when `probe` has ended."""
        return self._heads

    def probe(self, probing: Probing) -> Scores:
        """Search, train the best trial again with every seed, and score that.

        Raises:
            RunInterruptedError: asked to stop, between epochs; finished trials are kept.
            DataError: no class has a second training picture.
        """
        sweep, scaling = self.settings.sweep, self.settings.search.scaling
        learned, scored = extractor_of(self, probing, train=True), extractor_of(self, probing)
        vectors = probing.features(learned, probing.train, TRAIN).tensor()
        slice_: Sequence[Any] = probing.holdout
        rows = list(range(len(probing.train)))
        if not slice_:
            split: tuple[Sequence[Any], Sequence[Any]] = split_holdout(
                probing.train, share=sweep.holdout, seed=sweep.run_seed
            )
            slice_ = split[1]
            names = {picture.name for picture in slice_}
            rows = [row for row in rows if probing.train[row].name not in names]
        found = probing.features(scored, slice_, HELD)
        kept = vectors[rows]
        scaler = Scaler.fit(kept, scaling)
        trials = self._search(
            probing,
            LabelledFeatures.of([probing.train[row] for row in rows], kept, scaler, probing.device),
            LabelledFeatures.of(slice_, found, scaler, probing.device),
        )
        self._trials = trials
        best = max(trials, key=lambda trial: trial.score)
        options = {name: value for name, value in best.params.items() if name != "lr"}
        self._heads = tuple(
            HeadSpec(float(best.params["lr"]), head.seed, tuple(options.items()))
            for head in self._heads
        )

        scaler = Scaler.fit(vectors, scaling)
        train = LabelledFeatures.of(probing.train, vectors, scaler, probing.device)
        held = None
        if probing.holdout:
            held = LabelledFeatures.of(probing.holdout, found, scaler, probing.device)
        found = probing.features(scored, probing.val, VAL)
        val = LabelledFeatures.of(probing.val, found, scaler, probing.device)
        classes = len(self.dataset.classes)

        def make(head: HeadSpec) -> Scores:
            classifier = self._train(best, train, head.seed, probing)
            if classifier is None:
                probing.reporter.warn(f"{described(head)} diverged: it has no score")
                return Scores()
            return Scores(
                val.outcome(classifier, classes, self.metric),
                None if held is None else held.outcome(classifier, classes, self.metric),
            )

        return probing.together(self._heads, make)

    def pictures(self, outcome: Outcome, best: Sequence[int]) -> dict[str, Any]:
        """Ranks, and what was tried: `trials`, JSON of their parameters, and `trial_scores`."""
        return {
            **super().pictures(outcome, best),
            "trials": np.array([json.dumps(dict(one.params)) for one in self._trials]),
            "trial_scores": np.array([one.score for one in self._trials]),
        }

    def _search(
        self, probing: Probing, train: LabelledFeatures, held: LabelledFeatures
    ) -> list[Trial]:
        """All trials, in order: those on disk as far as they are this search's, then new ones."""
        search, path = self.settings.search, probing.points / TRIALS
        kept, trials = _read_trials(path), list[Trial]()
        space = search_space(search)
        update = probing.reporter.stage("searching", search.trials)
        for number in range(search.trials):
            params = next_params(space, trials, self.settings.sweep.run_seed)
            if number < len(kept) and kept[number].params == params:
                trials.append(kept[number])
            else:
                kept = []
                trials.append(Trial(params, self._try(params, train, held, probing)))
                _write_trials(path, trials)
            update(len(trials))
        return trials

    def _try(
        self,
        params: Mapping[str, float | str],
        train: LabelledFeatures,
        held: LabelledFeatures,
        probing: Probing,
    ) -> float:
        """Accuracy on the slice, in percent; 0 where training diverged."""
        classifier = self._train(Trial(params, 0.0), train, 0, probing)
        if classifier is None:
            return 0.0
        return held.outcome(classifier, len(self.dataset.classes), self.metric).head(0).score

    def _train(
        self, trial: Trial, train: LabelledFeatures, seed: int, probing: Probing
    ) -> LinearClassifier | None:
        return train_linear(
            train.vectors,
            train.labels,
            len(self.dataset.classes),
            recipe_of(trial.params, self.settings.search),
            run_seed=self.settings.sweep.run_seed,
            seed=seed,
            check_stop=probing.check_stop,
        )


def search_space(search: SearchSection) -> dict[str, BaseDistribution]:
    """Optuna's distributions by name."""
    return {
        "lr": FloatDistribution(*search.lr, log=True),
        "weight_decay": FloatDistribution(*search.weight_decay, log=True),
        "optimizer": CategoricalDistribution(search.optimizers),
        "schedule": CategoricalDistribution(search.schedules),
        "epochs": IntDistribution(*search.epochs),
    }


def next_params(
    space: Mapping[str, BaseDistribution], past: Sequence[Trial], run_seed: int
) -> dict[str, Any]:
    """What to try after these trials.

    The sampler is made anew for each, seeded by run and number, and told of all past trials: what
    it says follows from these alone, however often the search was interrupted.
    """
    digest = hashlib.sha256(f"trial:{run_seed}:{len(past)}".encode()).digest()
    sampler = optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4], "big"))
    with _quiet():
        study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(trial.params), distributions=dict(space), value=trial.score
            )
            for trial in past
        ]
    )
    return study.ask(dict(space)).params


def recipe_of(params: Mapping[str, Any], search: SearchSection) -> Recipe:
    """How a trial's classifier is trained."""
    return Recipe(
        **params,
        batch_size=search.batch_size,
        momentum=search.momentum,
        init_std=search.init_std,
    )


def _read_trials(path: Path) -> list[Trial]:
    """Trials on disk; none of a file that is missing or damaged."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Trial(dict(line["params"]), float(line["score"])) for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Write trials, one a line.

    Raises:
        OSError: as the file system says.
    """
    lines = [json.dumps({"params": dict(one.params), "score": one.score}) for one in trials]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells of every new study on stderr; its verbosity is put back."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
