"""The mmengine model of fine-tuned classification: a backbone and a linear layer."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.features.ranks import true_class_ranks
from vicregl_bench.features.views import mean_of_views
from vicregl_bench.heads.streams import INITIALISATION, stream_generator
from vicregl_bench.tasks.classification.finetuned_settings import FinetunedSettings
from vicregl_bench.tasks.trained import TrainedBackbone, TrainedSteps


class TrainedClassifier(TrainedSteps, BaseModel):  # type: ignore[misc]
    """A linear layer on a backbone's pooled vector, all of it trained by cross-entropy.

    In training BatchNorm normalises by the batch and keeps its running statistics, as VICReg's
    released evaluate.py does where it fine-tunes (its model is in training mode then, and in
    evaluation mode where the backbone is frozen).

    Args:
        backbone: with its weights.
        head: the linear layer.
        head_lr: its learning rate.
        options: of `TrainedSteps`, and mmengine's `data_preprocessor`.
    """

    def __init__(
        self, backbone: TrainedBackbone, head: nn.Linear, *, head_lr: float, **options: Any
    ) -> None:
        super().__init__(**options)
        self.backbone, self.head, self.head_lr = backbone, head, head_lr

    def param_groups(self) -> list[dict[str, Any]]:
        """The backbone at the grid's rate, then the head at its own."""
        return [
            {"params": list(self.backbone.parameters())},
            {"params": list(self.head.parameters()), "lr": self.head_lr},
        ]

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "predict") -> Any:
        """The loss of a batch, or ranks of the true classes.

        Args:
            inputs: pictures (B, 3, H, W); to predict (B * V, 3, H, W), the V views of a picture one
                after the other, whose vectors are averaged.
            data_samples: `label` and `index`, (B,).
            mode: "loss" or "predict".

        Returns:
            The mean cross-entropy as `loss`, or a list over B of `index` and `ranks` (1,). Where
            logits are not finite, the last step broke the model, which is marked.
        """
        labels = data_samples["label"].to(inputs.device)
        if mode == "loss":
            logits = self.head(self.backbone.body.pooled(inputs))
            return {"loss": F.cross_entropy(logits, labels)}
        assert mode == "predict"
        parts = torch.split(inputs, len(labels))
        logits = self.head(mean_of_views([self.backbone.body.pooled(part) for part in parts]))
        if not torch.isfinite(logits).all():
            self.mark_broken()
        ranks = true_class_ranks(logits, labels)[:, None].cpu().numpy()
        indices = data_samples["index"].tolist()
        pairs = zip(indices, ranks, strict=True)
        return [{"index": index, "ranks": rank} for index, rank in pairs]


def build_trained_classifier(
    settings: FinetunedSettings,
    source: BackboneSource,
    data_preprocessor: dict[str, Any],
    *,
    num_classes: int,
    head_seed: int,
) -> TrainedClassifier:
    """The model of one run of a fine-tuned task: a backbone with its weights, and a fresh head.

    The head is initialised as in `ClassifierSweep`: N(0, `init_std`) by the run's seed and its own,
    and a zero bias, as VICReg's evaluate.py does.

    Args:
        settings: of the task.
        source: of the backbone.
        data_preprocessor: mmengine's configuration of it.
        num_classes: C.
        head_seed: seed of the head, and of what the backbone draws in training.

    Raises:
        ConfigError: an output stride that the backbone cannot have.
    """
    run_seed = settings.sweep.run_seed
    with torch.random.fork_rng(devices=[]):
        body = source.build(settings.backbone.output_stride)
        head = nn.Linear(source.architecture.widths[-1], num_classes)
    with torch.no_grad():
        generator = stream_generator(run_seed, head_seed, INITIALISATION)
        head.weight.normal_(0.0, settings.classifier.init_std, generator=generator)
        head.bias.zero_()
    return TrainedClassifier(
        TrainedBackbone(body),
        head,
        head_lr=settings.classifier.lr,
        data_preprocessor=data_preprocessor,
        accumulate=settings.schedule.accumulate or 1,
        step_seeds=(run_seed, head_seed),
    )
