"""The settings of fine-tuned classification: as linear, and the rate of the head."""

from typing import Annotated, Literal

from pydantic import Field

from vicregl_bench.tasks.classification.settings import (
    CROP_OPTIONS,
    ClassificationSettings,
    ClassifierSection,
)
from vicregl_bench.tasks.settings import TrainedSettings


class TrainedClassifierSection(ClassifierSection):
    """The linear layer on the pooled vector of a backbone that is trained along."""

    lr: Annotated[float, Field(gt=0.0)]  # of this layer; the backbone's are the sweep's
    batch_norm: Literal[False]
    inputs: None = None


class FinetunedSettings(ClassificationSettings):
    """Everything that a run of fine-tuned classification is made of."""

    optional = (*TrainedSettings.optional, *CROP_OPTIONS)

    classifier: TrainedClassifierSection
