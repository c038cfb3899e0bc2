"""The mmengine model of a fine-tuned task: one head, and the whole backbone trained along.

Each (learning rate, seed) is a run of mmsegmentation's `EncoderDecoder`. What is added: a batch may
be computed in parts, dropout is that of an uninterrupted run after a resume, and a run that
diverges says so.
"""

import math
import warnings
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import initialize
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads import FCNHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn

from vicregl_bench.backbones.contract import Architecture, Backbone
from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.heads.streams import DROPOUT, INITIALISATION, seeded, stream_seed
from vicregl_bench.tasks.protocol import FcnHeadSection, Settings, SlideSection, Task
from vicregl_bench.tasks.segmentation.decode_head import SplitLinearHead


class _TrainedBackbone(nn.Module):
    """A backbone with its weights, all of them trained, as mmsegmentation's configs build one."""

    def __init__(self, body: Backbone) -> None:
        super().__init__()
        self.body = body.requires_grad_(True)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.body(images)
        return maps

    def init_weights(self) -> None:
        """Nothing: the weights were read at construction."""


class TrainedSegmentor(EncoderDecoder):  # type: ignore[misc]
    """mmseg's segmentor, one of whose training steps is one step of the optimiser.

    Its buffers `iteration`, the steps done, and `diverged_at`, the iteration whose loss was not
    finite or -1, are saved and resumed with the weights.

    Args:
        accumulate: parts of a batch that are computed one after another. In training mode
            BatchNorm sees the parts, not the batch.
        run_seed: seed of the whole run; dropout follows from it, the head's seed and the iteration.
        head_seed: seed of the head.
        options: of mmseg's `EncoderDecoder`.
    """

    iteration: Tensor
    diverged_at: Tensor

    def __init__(
        self, *, accumulate: int = 1, run_seed: int = 0, head_seed: int = 0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.accumulate, self.run_seed, self.head_seed = accumulate, run_seed, head_seed
        self.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        self.register_buffer("diverged_at", torch.full((), -1, dtype=torch.long))

    def init_weights(self) -> None:
        """Nothing: `build_trained` did it (mmengine's Runner calls this before training)."""

    def seed_step(self) -> None:
        """Seed torch's default generators, of all devices, for the coming iteration."""
        torch.manual_seed(stream_seed(self.run_seed, self.head_seed, DROPOUT, int(self.iteration)))

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """One iteration: forward and backward of every part of the batch, then one step.

        Where the loss is not finite there is no step: `diverged_at` is set, and later calls do
        nothing.

        Args:
            data: a collated batch, `inputs` (pictures) and `data_samples`, both of length B.
            optim_wrapper: mmengine's, with or without mixed precision.

        Returns:
            `loss`, of the whole batch, and `heads`, how many are still trained: 1 or 0.
        """
        if int(self.diverged_at) >= 0:
            return self._outcome(torch.full((), math.nan, device=self.iteration.device))
        self.seed_step()
        # cuDNN's choice of algorithm pays where every batch has one size; test pictures have many
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            total = self._accumulate(data, optim_wrapper)
        if torch.isfinite(total):
            optim_wrapper.step()
        else:
            self.diverged_at.copy_(self.iteration)
        optim_wrapper.zero_grad()
        self.iteration += 1
        return self._outcome(total)

    def _accumulate(self, data: Any, optim_wrapper: Any) -> Tensor:
        """Forward and backward of every part of a batch; the loss of the whole of it."""
        pictures, samples = data["inputs"], data["data_samples"]
        size = math.ceil(len(pictures) / self.accumulate)
        total = torch.zeros((), device=self.iteration.device)
        for start in range(0, len(pictures), size):
            part = slice(start, start + size)
            with optim_wrapper.optim_context(self):
                batch = {"inputs": pictures[part], "data_samples": samples[part]}
                losses = self._run_forward(self.data_preprocessor(batch, True), mode="loss")
            # all crops are of one size, so parts count by their pictures
            loss = self.parse_losses(losses)[0] * (len(pictures[part]) / len(pictures))
            optim_wrapper.backward(loss)
            total += loss.detach()
        return total

    def _outcome(self, loss: Tensor) -> dict[str, Tensor]:
        return {"loss": loss, "heads": (self.diverged_at < 0).sum()}

    def inference(self, inputs: Tensor, batch_img_metas: Any) -> Tensor:
        """Logits (B, C, H, W) as mmseg's; not finite, they show that the last step broke the model.

        In training the next iteration's loss shows it; after the last one there is none.
        """
        logits: Tensor = super().inference(inputs, batch_img_metas)
        if int(self.diverged_at) < 0 and not torch.isfinite(logits).all():
            self.diverged_at.copy_((self.iteration - 1).clamp(min=0))
        return logits


def build_trained(
    task: Task,
    source: BackboneSource,
    data_preprocessor: dict[str, Any],
    *,
    run_seed: int,
    head_seed: int,
) -> TrainedSegmentor:
    """The model of one run of a fine-tuned task: a backbone with its weights, and fresh heads.

    The heads' initialisation follows from the two seeds alone. The global generator is left as it
    was.

    Args:
        task: whose settings have a linear head or FCN's.
        source: of the backbone.
        data_preprocessor: mmseg's configuration of it.
        run_seed: seed of the whole run.
        head_seed: seed of the heads.

    Raises:
        ConfigError: an output stride that the backbone cannot have.
    """
    settings = task.settings
    with torch.random.fork_rng(devices=[]):
        backbone = source.build(settings.backbone.output_stride)
    start = seeded(torch.device("cpu"), run_seed, head_seed, INITIALISATION)
    with start, warnings.catch_warnings():
        # mmseg's loss warns that it averages over ignored pixels too, which is what is wanted
        warnings.filterwarnings("ignore", message="Default ``avg_non_ignore`` is False")
        model = TrainedSegmentor(
            accumulate=settings.schedule.accumulate or 1,
            run_seed=run_seed,
            head_seed=head_seed,
            data_preprocessor=data_preprocessor,
            backbone={"type": _TrainedBackbone, "body": backbone},
            **_heads(settings, source.architecture),
            test_cfg=_test_options(settings.slide),
        )
        for head in (model.decode_head, getattr(model, "auxiliary_head", None)):
            if head is not None:
                # what `init_weights` does, without a line in the log for every parameter; hidden
                # convolutions initialise themselves
                initialize(head, head.init_cfg)
    return model


def _test_options(slide: SlideSection | None) -> ConfigDict:
    if slide is None:
        return ConfigDict(mode="whole")
    return ConfigDict(mode="slide", crop_size=(slide.crop,) * 2, stride=(slide.stride,) * 2)


def _heads(settings: Settings, architecture: Architecture) -> dict[str, Any]:
    """Configurations of the decode head and, of FCN, the auxiliary one."""
    widths = architecture.widths
    if settings.head is not None:
        head = {
            "type": SplitLinearHead,
            "in_channels": [widths[index] for index in architecture.segmentation],
            "in_index": architecture.segmentation,
            "num_classes": settings.data.num_classes,
            "ignore_index": settings.data.ignore_index,
            **settings.head.model_dump(),
        }
        return {"decode_head": head}
    assert settings.fcn is not None  # Settings has either
    auxiliary = settings.fcn.auxiliary
    earlier = architecture.auxiliary
    return {
        "decode_head": _fcn_head(settings.fcn, settings, widths[-1], -1, 1.0),
        "auxiliary_head": _fcn_head(
            auxiliary, settings, widths[earlier], earlier, auxiliary.loss_weight
        ),
    }


def _fcn_head(
    section: FcnHeadSection, settings: Settings, width: int, index: int, loss_weight: float
) -> dict[str, Any]:
    return {
        "type": FCNHead,
        "in_channels": width,
        "in_index": index,
        "channels": section.channels,
        "num_convs": section.num_convs,
        "concat_input": section.concat_input,
        "dropout_ratio": section.dropout,
        "num_classes": settings.data.num_classes,
        "ignore_index": settings.data.ignore_index,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "align_corners": False,
        "loss_decode": {"type": CrossEntropyLoss, "loss_weight": loss_weight},
    }
