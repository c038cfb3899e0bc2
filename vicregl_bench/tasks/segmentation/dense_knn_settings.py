"""The settings of segmentation by nearest neighbours."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from vicregl_bench.engine.settings import Section, distinct
from vicregl_bench.tasks.segmentation.settings import DataSection
from vicregl_bench.tasks.settings import KnownDataSection, Sets, Settings


class SquaresSection(KnownDataSection):
    """Data set, whose pictures are all resized to one square."""

    sets: ClassVar[Sets] = DataSection.sets

    dataset: Literal["voc", "cityscapes", "ade20k"]
    side: PositiveInt  # pixels


class MemorySection(Section):
    """The memory of training patches."""

    size: PositiveInt  # vectors at the most, the same number of every picture


class DenseKnnSection(Section):
    """How the nearest patches label a patch."""

    # neighbours that vote
    ks: Annotated[
        tuple[PositiveInt, ...],
        Field(min_length=1),
        distinct("a number of neighbours stands twice"),
    ]
    temperature: Annotated[float, Field(gt=0.0)]  # votes are a softmax of cosine / temperature


class SearchSection(Section):
    """What is in (GPU) memory at a time; the result does not depend on it."""

    queries: PositiveInt  # val patches; the whole memory is read for each so many
    vectors: PositiveInt  # of the memory


class DenseKnnSettings(Settings):
    """Everything that a run of segmentation by nearest neighbours is made of."""

    data: SquaresSection
    memory: MemorySection
    knn: DenseKnnSection
    search: SearchSection

    @model_validator(mode="after")
    def _memory_has_neighbours(self) -> "DenseKnnSettings":
        if max(self.knn.ks) > self.memory.size:
            raise ValueError(
                f"{max(self.knn.ks)} neighbours of {self.memory.size} vectors: set memory.size too"
            )
        return self
