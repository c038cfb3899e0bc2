"""The mmengine model of linear classification: one trunk pass, K heads, no autograd."""

from typing import Any

from mmengine.model import BaseModel
from torch import Tensor

from vicregl_bench.backbones.contract import Architecture
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.heads.classifier_sweep import ClassifierSweep
from vicregl_bench.tasks.classification.settings import ClassificationSettings
from vicregl_bench.tasks.grid import head_specs
from vicregl_bench.tasks.swept import SweptSteps

POOLED = "pooled"
"""The vector that a backbone gives for a whole picture."""


def build_classifier_sweep(
    settings: ClassificationSettings, architecture: Architecture, num_classes: int
) -> ClassifierSweep:
    """The linear heads of a task on a frozen backbone, in the order of `head_specs`."""
    heads = head_specs(settings)
    return ClassifierSweep(
        {POOLED: architecture.widths[-1]},
        num_classes,
        heads,
        [POOLED] * len(heads),
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
        """What the heads read of pictures (B, 3, H, W): vectors (B, D) by name."""
        return {POOLED: self._trunk.pooled(inputs)}

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
        logits = self.sweep.logits(self.features(inputs))
        self.sweep.mark_not_finite(logits)
        labels = data_samples["label"].to(logits.device)
        own = logits.gather(2, labels.view(1, -1, 1).expand(len(logits), -1, 1))
        # not below one's own, oneself left out: a constant classifier is never right
        ranks = (logits >= own).sum(dim=2).sub(1).T.cpu().numpy()
        indices = data_samples["index"].tolist()
        return [{"index": index, "ranks": rank} for index, rank in zip(indices, ranks, strict=True)]
