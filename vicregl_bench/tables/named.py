"""What a user says of weights that no file of theirs tells."""

from collections.abc import Callable
from dataclasses import dataclass

from vicregl_bench.records.schema import Record


@dataclass(frozen=True)
class Named:
    """Weights as tables show them.

    Attributes:
        name: shown in the first column.
        row: the printed row that they are measured for, as `vicregl-bench table N --published`
            names it; None where they belong to none.
        alpha: weight of VICRegL's global criterion in their pretraining (figure 2).
        epochs: of their pretraining.
    """

    name: str
    row: str | None = None
    alpha: float | None = None
    epochs: int | None = None


Naming = Callable[[Record], Named | None]
"""What is said of a record's weights; None where nothing is."""
