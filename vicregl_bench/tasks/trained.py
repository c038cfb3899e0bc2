"""One run of a fine-tuned task as an mmengine model: steps that accumulate, resume and diverge.

Put in front of an mmsegmentation or mmdetection model. A batch may be computed in parts, random
numbers are those of an uninterrupted run after a resume, and a run that diverges says so.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from vicregl_bench.backbones.contract import Backbone
from vicregl_bench.heads.streams import DROPOUT, stream_seed


class TrainedBackbone(nn.Module):
    """A backbone with its weights, all of them trained, as OpenMMLab's configs build one."""

    def __init__(self, body: Backbone) -> None:
        super().__init__()
        self.body = body.requires_grad_(True)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The backbone's maps."""
        maps: tuple[Tensor, ...] = self.body(images)
        return maps

    def init_weights(self) -> None:
        """Nothing: the weights were read at construction."""


class TrainedSteps:
    """In front of an mmengine model, one of whose training steps is one step of the optimiser.

    Its buffers `iteration`, the steps done, and `diverged_at`, the iteration whose loss was not
    finite or -1, are saved and resumed with the weights.

    Args:
        accumulate: parts of a batch that are computed one after another. In training mode
            BatchNorm sees the parts, not the batch.
        step_seeds: of the whole run and of the head; dropout and sampling follow from them and the
            iteration.
        one_size: whether all batches have one size, so that cuDNN's search for the fastest
            algorithm pays.
        options: of the model.
    """

    iteration: Tensor
    diverged_at: Tensor

    def __init__(
        self,
        *,
        accumulate: int = 1,
        step_seeds: tuple[int, int] = (0, 0),
        one_size: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.accumulate, self.step_seeds, self.one_size = accumulate, step_seeds, one_size
        model: Any = self
        model.register_buffer("iteration", torch.zeros((), dtype=torch.long))
        model.register_buffer("diverged_at", torch.full((), -1, dtype=torch.long))

    def init_weights(self) -> None:
        """Nothing: the weights are there (mmengine's Runner calls this before training)."""

    def seed_step(self) -> None:
        """Seed torch's default generators, of all devices, for the coming iteration."""
        torch.manual_seed(stream_seed(*self.step_seeds, DROPOUT, int(self.iteration)))

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """One iteration: forward and backward of every part of the batch, then one step.

        Where the loss is not finite there is no step: `diverged_at` is set, and later calls do
        nothing.

        Args:
            data: a collated batch, `inputs` (pictures) and `data_samples`, both of length B, or
                samples as tensors (B, ...) by name.
            optim_wrapper: mmengine's, with or without mixed precision.

        Returns:
            `loss`, of the whole batch, and `heads`, how many are still trained: 1 or 0.
        """
        if int(self.diverged_at) >= 0:
            return self._outcome(torch.full((), math.nan, device=self.iteration.device))
        self.seed_step()
        # the search pays where every batch has one size; test pictures have many
        with torch.backends.cudnn.flags(enabled=True, benchmark=self.one_size, allow_tf32=False):
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
        model: Any = self
        pictures = data["inputs"]
        size = math.ceil(len(pictures) / self.accumulate)
        total = torch.zeros((), device=self.iteration.device)
        for start in range(0, len(pictures), size):
            part = slice(start, start + size)
            with optim_wrapper.optim_context(self):
                batch = _part_of(data, part)
                losses = model._run_forward(model.data_preprocessor(batch, True), mode="loss")
            # parts count by their pictures
            loss = model.parse_losses(losses)[0] * (len(pictures[part]) / len(pictures))
            optim_wrapper.backward(loss)
            total += loss.detach()
        return total

    def param_groups(self) -> list[dict[str, Any]]:
        """The optimiser's parameter groups; one without an `lr` has the grid's."""
        model: Any = self
        return [{"params": list(model.parameters())}]

    def _outcome(self, loss: Tensor) -> dict[str, Tensor]:
        return {"loss": loss, "heads": (self.diverged_at < 0).sum()}

    def mark_broken(self) -> None:
        """Say that the last step broke the model.

        In training the next iteration's loss shows it; after the last one there is none.
        """
        if int(self.diverged_at) < 0:
            self.diverged_at.copy_((self.iteration - 1).clamp(min=0))


def _part_of(data: Any, part: slice) -> Any:
    """Some pictures of a batch, whose samples are a list or tensors by name."""
    samples = data["data_samples"]
    chosen = (
        {name: values[part] for name, values in samples.items()}
        if isinstance(samples, dict)
        else samples[part]
    )
    return {"inputs": data["inputs"][part], "data_samples": chosen}
