"""The mmengine model of linear classification: one trunk pass, K heads, no autograd."""

from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.errors import ConfigError
from vicregl_bench.features.ranks import true_class_ranks
from vicregl_bench.features.views import mean_of_views
from vicregl_bench.heads.classifier_sweep import ClassifierSweep
from vicregl_bench.tasks.classification.settings import ClassificationSettings
from vicregl_bench.tasks.grid import head_specs
from vicregl_bench.tasks.swept import SweptSteps

POOLED = "pooled"
"""The input that is there unless others are asked for: a backbone's vector of a whole picture."""


def input_widths(settings: ClassificationSettings, architecture: Architecture) -> dict[str, int]:
    """Width of every input of the grid, by name.

    Raises:
        ConfigError: the backbone has no such input.
    """
    there, names = architecture.vectors, settings.classifier.inputs or (POOLED,)
    for name in names:
        if not set(name.split("+")) <= set(there):
            raise ConfigError(
                f"classifier.inputs: no {name} of a {architecture.family} backbone "
                f"({architecture.name}); it has {', '.join(there)}"
            )
    return {name: sum(there[part] for part in name.split("+")) for name in names}


def build_classifier_sweep(
    settings: ClassificationSettings, architecture: Architecture, num_classes: int
) -> ClassifierSweep:
    """The linear heads of a task on a frozen backbone: learning rates x inputs x seeds.

    The input is among a head's options where there are several.

    Raises:
        ConfigError: the backbone has no such input.
    """
    widths = input_widths(settings, architecture)
    names = list(widths)
    heads = head_specs(settings)
    inputs = [names[0]] * len(heads)
    if len(names) > 1:
        seeds = settings.sweep.seeds
        rates = [heads[k : k + seeds] for k in range(0, len(heads), seeds)]
        pairs = [(head, name) for rate in rates for name in names for head in rate]
        heads = tuple(replace(head, options=(("input", name),)) for head, name in pairs)
        inputs = [name for _, name in pairs]
    return ClassifierSweep(
        widths,
        num_classes,
        heads,
        inputs,
        run_seed=settings.sweep.run_seed,
        batch_norm=settings.classifier.batch_norm,
        init_std=settings.classifier.init_std,
    )


class FrozenSweepClassifier(SweptSteps, BaseModel):  # type: ignore[misc]
    """mmengine model whose prediction is the rank of each picture's class, of every head.

    The trunk is no submodule: it is neither trained nor saved nor switched to training mode.

    Args:
        trunk: frozen.
        sweep: the heads.
        data_preprocessor: mmengine's configuration of it.
    """

    def __init__(
        self, trunk: FrozenTrunk, sweep: ClassifierSweep, data_preprocessor: dict[str, Any]
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self._trunk, self.sweep = trunk, sweep

    def features(self, inputs: Tensor) -> dict[str, Tensor]:
        """What the heads read of pictures (B, 3, H, W): vectors (B, D) by name, of one forward."""
        names = tuple(self.sweep.widths)
        if names == (POOLED,):
            return {POOLED: self._trunk.pooled(inputs)}
        vectors = self._trunk.vectors(inputs)
        return {
            name: torch.cat([vectors[part] for part in name.split("+")], dim=1) for name in names
        }

    def mean_features(self, inputs: Tensor, pictures: int) -> dict[str, Tensor]:
        """Means over the views of every picture, computed in parts for memory's sake.

        Args:
            inputs: (B * V, 3, H, W), the V views of a picture one after the other.
            pictures: B.

        Returns:
            (B, D) by name.
        """
        parts = [self.features(part) for part in torch.split(inputs, pictures)]
        return {name: mean_of_views([part[name] for part in parts]) for name in parts[0]}

    def loss(self, inputs: Tensor, data_samples: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of all heads (K,); the gradients are left in the parameters."""
        labels = data_samples["label"].to(inputs.device)
        losses = self.sweep.accumulate_gradients(self.features(inputs), labels)
        return {"loss_per_head": losses}

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "predict") -> Any:
        """Ranks of the true classes: a list over B of `index` and `ranks` (K,).

        A head whose logits are not finite, because its last step broke it, is marked.
        """
        assert mode == "predict"
        labels = data_samples["label"].to(inputs.device)
        logits = self.sweep.logits(self.mean_features(inputs, len(labels)))
        self.sweep.mark_not_finite(logits)
        ranks = true_class_ranks(logits, labels).T.cpu().numpy()
        indices = data_samples["index"].tolist()
        return [{"index": index, "ranks": rank} for index, rank in zip(indices, ranks, strict=True)]
