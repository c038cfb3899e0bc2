"""Linear classification of cached features: every point of the grid on features taken once.

Not `imagenet_linear`'s protocol, whose classifiers see random crops: scores of the two are not to
be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vicregl_bench.data import ClassificationData, Labelled
from vicregl_bench.features.linear_classifier import LinearClassifier
from vicregl_bench.features.linear_training import Recipe, train_linear
from vicregl_bench.features.logistic import fit_logistic
from vicregl_bench.features.scaler import Scaler
from vicregl_bench.features.shards import Features
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.classification.domain import WholePictures
from vicregl_bench.tasks.classification.extraction import (
    HELD,
    TRAIN,
    VAL,
    VectorProbe,
    extractor_of,
)
from vicregl_bench.tasks.classification.outcome import LabelRanks
from vicregl_bench.tasks.classification.probe_settings import CachedLinearSettings
from vicregl_bench.tasks.grid import described
from vicregl_bench.tasks.measured import Scores
from vicregl_bench.tasks.probing import Probing


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Vectors (N, D) of pictures and their classes (N,), on one device.

    Attributes:
        names: of the pictures.
        vectors: scaled as the classifier takes them.
        labels: true classes.
    """

    names: tuple[str, ...]
    vectors: Tensor
    labels: Tensor

    @classmethod
    def of(
        cls,
        pictures: Sequence[Labelled],
        features: Features | Tensor,
        scaler: Scaler,
        device: torch.device,
    ) -> "LabelledFeatures":
        """Features of pictures, scaled and brought to a device."""
        vectors = features if isinstance(features, Tensor) else features.tensor()
        return cls(
            tuple(picture.name for picture in pictures),
            scaler(vectors).to(device),
            torch.tensor([picture.label for picture in pictures], device=device),
        )

    def outcome(self, classifier: LinearClassifier, classes: int, metric: str) -> LabelRanks:
        """What a classifier of C classes made of them, by a metric of `LabelRanks`."""
        ranks = classifier.ranks(self.vectors, self.labels)[:, None]
        return LabelRanks(
            self.names, self.labels.cpu().numpy(), ranks.numpy(), classes, metric=metric
        )


class CachedLinear(WholePictures, VectorProbe[ClassificationData]):
    """Linear classifiers on features of central crops, or of views in test."""

    @property
    def settings(self) -> CachedLinearSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, CachedLinearSettings)
        return settings

    def heads(self) -> tuple[HeadSpec, ...]:
        """One a penalty; with solver sgd learning rates x weight decays x seeds."""
        sweep = self.settings.sweep
        if self.settings.probe.solver == "lbfgs":
            return tuple(HeadSpec(None, 0, (("l2", l2),)) for l2 in sweep.l2)
        return tuple(
            HeadSpec(lr, seed, (("weight_decay", decay),))
            for lr in sweep.lrs
            for decay in sweep.weight_decays
            for seed in range(sweep.seeds)
        )

    def probe(self, probing: Probing) -> Scores:
        """Scores of every point.

        Raises:
            RunInterruptedError: asked to stop, between points, with solver sgd between epochs.
        """
        learned, scored = extractor_of(self, probing, train=True), extractor_of(self, probing)
        vectors = probing.features(learned, probing.train, TRAIN).tensor()
        scaler = Scaler.fit(vectors, self.settings.probe.scaling)
        train = LabelledFeatures.of(probing.train, vectors, scaler, probing.device)
        del vectors
        held = None
        if probing.holdout:
            found = probing.features(scored, probing.holdout, HELD)
            held = LabelledFeatures.of(probing.holdout, found, scaler, probing.device)
        found = probing.features(scored, probing.val, VAL)
        val = LabelledFeatures.of(probing.val, found, scaler, probing.device)
        classes = len(self.dataset.classes)

        def make(head: HeadSpec) -> Scores:
            classifier, notes = self._fit(head, train, probing)
            if classifier is None:
                probing.reporter.warn(f"{described(head)} diverged: it has no score")
                return Scores()
            return Scores(
                val.outcome(classifier, classes, self.metric),
                None if held is None else held.outcome(classifier, classes, self.metric),
                notes=(notes,),
            )

        return probing.together(self.heads(), make)

    def _fit(
        self, head: HeadSpec, train: LabelledFeatures, probing: Probing
    ) -> tuple[LinearClassifier | None, tuple[str, ...]]:
        """The classifier of a point, None where it diverged, and notes on its fit."""
        settings, options = self.settings, dict(head.options)
        classes = len(self.dataset.classes)
        if head.lr is None:
            classifier, converged = fit_logistic(
                train.vectors,
                train.labels,
                classes,
                l2=float(options["l2"]),
                max_iter=settings.lbfgs.max_iter,
                tolerance=settings.lbfgs.tolerance,
                check_stop=probing.check_stop,
            )
            if converged:
                return classifier, ()
            limit = f"in at most {settings.lbfgs.max_iter} iterations"
            probing.reporter.warn(
                f"L-BFGS did not converge at {described(head)}, {limit}: "
                "--set lbfgs.max_iter=... allows more"
            )
            return classifier, (f"L-BFGS did not converge, {limit}",)
        recipe = Recipe(
            optimizer="SGD",
            lr=head.lr,
            weight_decay=float(options["weight_decay"]),
            schedule="cosine",
            epochs=settings.sgd.epochs,
            batch_size=settings.sgd.batch_size,
            momentum=settings.sgd.momentum,
            init_std=settings.sgd.init_std,
        )
        trained = train_linear(
            train.vectors,
            train.labels,
            classes,
            recipe,
            run_seed=settings.sweep.run_seed,
            seed=head.seed,
            check_stop=probing.check_stop,
        )
        return trained, ()
