"""What tables say of the weights of a record: who they are, backbone, alpha, epochs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vicregl_bench.records.schema import Record
from vicregl_bench.tables.columns import beginnings
from vicregl_bench.tables.named import Naming

BACKBONES = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnet152": "ResNet-152",
    "resnet200": "ResNet-200",
    "resnet50x2": "ResNet-50 (x2)",
    "resnet50x4": "ResNet-50 (x4)",
    "resnet50x5": "ResNet-50 (x5)",
    "resnet200x2": "ResNet-200 (x2)",
    "convnext_tiny": "ConvNeXt-T",
    "convnext_small": "ConvNeXt-S",
    "convnext_base": "ConvNeXt-B",
    "convnext_large": "ConvNeXt-L",
    "convnext_xlarge": "ConvNeXt-XL",
    "convnext_tiny_no_layerscale": "ConvNeXt-T",
    "convnext_small_no_layerscale": "ConvNeXt-S",
    "convnext_base_no_layerscale": "ConvNeXt-B",
    "convnext_xlarge_no_layerscale": "ConvNeXt-XL",
    "vit_small_patch16": "ViT-S",
    "vit_small_patch16_12heads": "ViT-S",
    "vit_base_patch16": "ViT-B",
}
"""Architecture -> the papers' name. Others, such as `resnet50_v1`, which strides elsewhere than the
papers' ResNet-50, keep their own."""

Identity = tuple[str, str, str]
"""Weights, architecture, and method, from which the preprocessing follows."""


@dataclass(frozen=True)
class Facts:
    """What is known of weights; None where nothing says.

    Attributes:
        name: shown in tables, with the beginning of the weights' hash where two share a name.
        title: of the method, from its card.
        backbone: the papers' name of the architecture, where they have one.
        row: printed row that the user names for them.
        random: whether the weights are made, not read.
    """

    name: str
    title: str
    backbone: str
    alpha: float | None
    epochs: int | None
    row: str | None
    random: bool = False


def identity(record: Record) -> Identity:
    """What a row of a table is of."""
    checkpoint = record.checkpoint
    return checkpoint.weights_sha256, checkpoint.arch, checkpoint.method


def weights_facts(records: Iterable[Record], naming: Naming | None) -> dict[Identity, Facts]:
    """What is known of the weights of each record, from its card and from what the user says.

    The user's word goes before the card's. VICReg is VICRegL of alpha 1
    (VICRegL, section 4.2).
    """
    found: dict[Identity, Facts] = {}
    for record in records:
        known = naming(record) if naming is not None else None
        if identity(record) in found and known is None:
            continue
        card, checkpoint = record.checkpoint.card, record.checkpoint
        title = str(card.get("title") or checkpoint.method)
        alpha = _number(card.get("alpha"))
        epochs = _number(card.get("epochs"))
        if known is not None:
            alpha = alpha if known.alpha is None else known.alpha
            epochs = epochs if known.epochs is None else known.epochs
        if alpha is None and title == "VICReg":
            alpha = 1.0
        found[identity(record)] = Facts(
            name=checkpoint.name if known is None else known.name,
            title=title,
            backbone=BACKBONES.get(checkpoint.arch, checkpoint.arch),
            alpha=alpha,
            epochs=None if epochs is None else round(epochs),
            row=None if known is None else known.row,
            random=checkpoint.method == "random",
        )
    return _told_apart(found)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _told_apart(found: dict[Identity, Facts]) -> dict[Identity, Facts]:
    hashes: dict[str, set[str]] = {}
    for (weights, _, _), facts in found.items():
        hashes.setdefault(facts.name, set()).add(weights)
    short = {name: beginnings(some) for name, some in hashes.items() if len(some) > 1}
    return {
        key: replace(facts, name=f"{facts.name} ({short[facts.name][key[0]]})")
        if facts.name in short
        else facts
        for key, facts in found.items()
    }


def not_comparable(record: Record) -> list[str]:
    """Why a record's scores are not comparable with the papers'; empty where they are."""
    task = record.task
    reasons = []
    if task.profile != "paper":
        reasons.append(f"profile {task.profile}, which is no protocol of the paper")
    if record.deviations:
        reasons.append(f"deviates from {task.name}: {'; '.join(record.deviations)}")
    return reasons
