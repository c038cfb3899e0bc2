"""What VICRegL prints of the trade-off over alpha (figure 2)."""

from collections.abc import Mapping
from dataclasses import dataclass

from vicregl_bench.tables.layout import layout

TABLES = ("1", "2")
"""Tables of VICRegL whose rows say their alpha."""


@dataclass(frozen=True)
class PublishedPoint:
    """A printed row of known alpha.

    Attributes:
        table: where it is printed.
        backbone: in the paper's spelling.
        alpha: of the pretraining.
        scores: task -> score in percent.
    """

    table: str
    backbone: str
    alpha: float
    scores: Mapping[str, float]


def published_points() -> tuple[PublishedPoint, ...]:
    """VICRegL's rows of tables 1 and 2, and VICReg's as alpha 1 (section 4.2).

    The one pretrained on ImageNet-22k (ConvNeXt-XL) is left out. The ablations do not print alpha.

    Raises:
        RecordError: the published numbers are missing or damaged.
    """
    points = []
    for number in TABLES:
        table = layout(number)
        for row in table.rows:
            alpha = 1.0 if row.method == "VICReg" else row.alpha
            if alpha is None or row.setting:
                continue
            scores = {
                column.protocol: row.numbers[column.name].value
                for column in table.columns
                if column.protocol and column.name in row.numbers
            }
            points.append(PublishedPoint(number, row.backbone, alpha, scores))
    return tuple(points)
