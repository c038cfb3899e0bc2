import pytest
import torch
from torch import Tensor
from torchvision import ops

from vicregl_bench.heads.roi_average import roi_average_matrix, roi_average_weights

STRIDE = 16


def boxes_in_and_out(count: int, height: int, width: int) -> Tensor:
    """Boxes of any size, some partly or wholly outside a picture, and a few special ones."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.rand(count, 2, 2, generator=generator, dtype=torch.float64)
    ends = ends * torch.tensor([1.6 * width, 1.6 * height]) - torch.tensor([0.3 * width] * 2)
    random = torch.cat([ends.min(dim=1).values, ends.max(dim=1).values], dim=1)
    special = [
        [0, 0, width, height],  # the whole picture
        [20, 20, 20, 50],  # no width
        [40, 30, 20, 60],  # turned round
        [3, 5, 3.5, 5.25],  # within a pixel of the map
        [-500, -400, -100, -90],  # far outside
        [-2000, -2000, 3000, 3000],
        [width - 0.1, height - 0.1, width + 30, height + 30],
    ]
    return torch.cat([random, torch.tensor(special, dtype=torch.float64)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2])
@pytest.mark.parametrize("size", [(13, 9), (1, 5)])
def test_equals_the_mean_of_torchvisions_roi_align(
    size: tuple[int, int], sampling_ratio: int, dtype: torch.dtype, tolerance: float
) -> None:
    boxes = boxes_in_and_out(300, STRIDE * size[0], STRIDE * size[1]).to(dtype)
    features = torch.randn(1, 5, *size, dtype=dtype)
    rows, columns = roi_average_weights(boxes, size, stride=STRIDE, sampling_ratio=sampling_ratio)
    ours = roi_average_matrix(rows, columns) @ features[0].flatten(1).T
    theirs = ops.roi_align(features, [boxes], 7, 1 / STRIDE, sampling_ratio, aligned=True)
    torch.testing.assert_close(ours, theirs.mean((2, 3)), rtol=0, atol=tolerance)


def test_weights_of_a_region_inside_the_picture_sum_to_one() -> None:
    boxes = torch.tensor([[0.0, 0.0, 96.0, 80.0], [10.0, 20.0, 33.0, 47.0]])
    for weights in roi_average_weights(boxes, (5, 6), stride=STRIDE):
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))


def test_no_boxes_give_no_weights() -> None:
    rows, columns = roi_average_weights(torch.zeros(0, 4), (5, 6), stride=STRIDE)
    assert rows.shape == (0, 5) and columns.shape == (0, 6)
    assert roi_average_matrix(rows, columns).shape == (0, 30)
