"""Choices that several commands offer."""

from enum import StrEnum


class Profile(StrEnum):
    """Of a protocol."""

    paper = "paper"
    ci = "ci"


class Select(StrEnum):
    """What chooses the learning rate."""

    val = "val"
    holdout = "holdout"


class Precision(StrEnum):
    """Of the backbone's forward."""

    fp32 = "fp32"
    bf16 = "bf16"


class TableFormat(StrEnum):
    """What a table is printed as."""

    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    html = "html"
