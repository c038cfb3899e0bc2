"""The fields of a card, checked: of one inside a checkpoint, and of one beside it."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from vicregl_bench.checkpoints.card import ChannelOrder

_SCALE = "the scale is 0 to 255: multiply by 255"


def _three(value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError("three numbers are needed")
    return tuple(value)


def _full_mean(value: float) -> float:
    if 0.0 < value < 1.0:
        raise ValueError(_SCALE)
    return value


def _full_std(value: float) -> float:
    if value < 1.0:
        raise ValueError(_SCALE)
    return value


_Mean = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_full_mean)]
_Std = Annotated[float, Field(allow_inf_nan=False, gt=0.0), AfterValidator(_full_std)]


class CardFields(BaseModel):
    """The fields of a `Card` but its references; every one may be missing.

    A mean between 0 and 1 or a divisor below 1 is of pixels from 0 to 1, and refused: the scale is
    0 to 255, on which 0 (no mean), 1 (no divisor, as Caffe's) and 255 (SimCLR's) are the least
    that occurs.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    method: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")] | None = None
    title: str | None = None
    source: str | None = None
    mean: Annotated[tuple[_Mean, _Mean, _Mean], BeforeValidator(_three)] | None = None
    std: Annotated[tuple[_Std, _Std, _Std], BeforeValidator(_three)] | None = None
    channel_order: ChannelOrder | None = None
    note: str | None = None
    arch: str | None = None
    pooling: Literal["avg", "cls"] | None = None
    output_norm: bool | None = None
    detection_preset: Literal["moco", "lars"] | None = None
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    epochs: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None


def first_problem(error: ValidationError, known: Iterable[str]) -> str:
    """Say in one line which field is wrong first and why, and what there is if it is no field."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    text = f"{where}: {first['msg'].removeprefix('Value error, ')}"
    if first["type"] == "extra_forbidden":
        text += f"; known fields: {', '.join(known)}"
    return " ".join(text.split())
