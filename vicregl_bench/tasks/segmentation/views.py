"""Test-time augmentation of any mmseg segmentor: the mean of the probabilities of all views."""

from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.structures import PixelData
from torch import Tensor, nn

from vicregl_bench.tasks.segmentation.settings import TestSection


class MeanOfViews(BaseTTAModel):  # type: ignore[misc]
    """mmseg's `SegTTAModel` with one picture's logits in memory at a time, and for validation too.

    Deviations: views are summed up as they come (mmseg keeps the logits of all of them, several GB
    for 150 classes), the merged sample holds no logits, and is the first view's.

    Args:
        module: a segmentor whose predictions hold `seg_logits` of several classes at the original
            size, as those of mmseg's `EncoderDecoder` do.
    """

    def val_step(self, data: Any) -> list[Any]:
        """As `test_step`; mmengine's class has none of its own."""
        return self.test_step(data)

    def test_step(self, data: Any) -> list[Any]:
        """Labels of the largest mean probability of all views.

        Args:
            data: what mmcv's `TestTimeAug` makes: lists over views of lists over the batch.

        Returns:
            The first view's data samples, with `pred_sem_seg.data` (1, H, W), int64.
        """
        merged: list[Any] = []
        totals: list[Tensor] = []
        for inputs, samples in zip(data["inputs"], data["data_samples"], strict=True):
            predicted = self.module.test_step({"inputs": inputs, "data_samples": samples})
            probabilities = []
            for sample in predicted:
                probabilities.append(sample.seg_logits.data.softmax(dim=0))
                del sample.seg_logits
            if not merged:
                merged, totals = predicted, probabilities
                continue
            for total, more in zip(totals, probabilities, strict=True):
                total += more
        for sample, total in zip(merged, totals, strict=True):
            sample.pred_sem_seg = PixelData(data=total.argmax(dim=0, keepdim=True))
        return merged

    def merge_preds(self, data_samples_list: Any) -> Any:
        """Not called: `test_step` merges."""
        raise NotImplementedError


def evaluated(model: nn.Module, test: TestSection | None) -> nn.Module:
    """What mmengine's ValLoop and TestLoop evaluate in a trained segmentor's place.

    Args:
        model: the segmentor, or mmengine's distributed wrapper around it.
        test: the views; None for none.

    Returns:
        The model itself without views, else the model over all of them; the parameters are shared.
    """
    if test is None:
        return model
    return MeanOfViews(model.module if is_model_wrapper(model) else model)
