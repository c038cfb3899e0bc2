"""The settings of linear SVMs on image labels."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from vicregl_bench.engine.settings import Section, distinct
from vicregl_bench.tasks.classification.settings import ViewsSection
from vicregl_bench.tasks.settings import Settings


class ImageLabelsSection(ViewsSection):
    """Crops of a data set of several classes a picture."""

    dataset: Literal["voc_labels"]
    variant: Literal["voc07"]


class SvmSection(Section):
    """One linear SVM a class, on vectors of length 1."""

    # LIBLINEAR's C: each class takes the one of the best cross-validated average precision
    costs: Annotated[
        tuple[Annotated[float, Field(gt=0.0)], ...],
        Field(min_length=1),
        distinct("a cost stands twice"),
    ]
    folds: Annotated[int, Field(ge=2)]
    positive_weight: Annotated[float, Field(gt=0.0)]  # times C, of pictures that have the class
    max_iter: PositiveInt


class SvmSettings(Settings):
    """Everything that a run of linear SVMs is made of."""

    optional = ("data.views",)

    data: ImageLabelsSection
    svm: SvmSection
