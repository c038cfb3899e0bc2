"""One training step of all heads on a frozen trunk, as an mmengine model's."""

from typing import Any

from torch import Tensor

from vicregl_bench.heads.sweep import Heads


class SweptSteps:
    """In front of an mmengine model whose `loss` leaves every head's gradients in its parameters.

    The model's `sweep` are the heads.
    """

    def init_weights(self) -> None:
        """Nothing: the heads are initialised (mmengine's Runner calls this before training)."""

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """One iteration of every head: hand-written gradients, one optimiser step.

        Returns the mean loss over the heads still trained, and the number of these heads. (A key
        with "loss" in it would be summed by mmengine's parse_losses; it is not called here.)
        """
        model: Any = self
        batch = model.data_preprocessor(data, True)
        losses = model.loss(batch["inputs"], batch["data_samples"])["loss_per_head"]
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        sweep: Heads = model.sweep
        alive = sweep.diverged_at < 0
        return {"loss": losses[alive].mean(), "heads": alive.sum()}
