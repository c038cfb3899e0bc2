"""What fine-tuned classification does in a run: linear classification's data, other models."""

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.classification.dataset import preprocessor
from vicregl_bench.tasks.classification.domain import Classification
from vicregl_bench.tasks.classification.finetuned_settings import FinetunedSettings
from vicregl_bench.tasks.classification.frozen_classifier import FrozenSweepClassifier
from vicregl_bench.tasks.classification.trained_classifier import (
    TrainedClassifier,
    build_trained_classifier,
)


class FinetunedClassification(Classification):
    """A linear classifier and the whole backbone, trained on random crops."""

    @property
    def settings(self) -> FinetunedSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, FinetunedSettings)
        return settings

    def sweep_model(self, trunk: FrozenTrunk) -> FrozenSweepClassifier:
        """Nothing is frozen."""
        raise AssertionError("a fine-tuned task has no frozen trunk")

    def trained_model(self, head: HeadSpec) -> TrainedClassifier:
        """One head and the whole backbone."""
        return build_trained_classifier(
            self.settings,
            self.source,
            preprocessor(self.source.card),
            num_classes=len(self.dataset.classes),
            head_seed=head.seed,
        )
