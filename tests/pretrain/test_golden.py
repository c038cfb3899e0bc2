"""Against numbers computed with the method authors' public implementation (float64)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain.losses import TERMS, VICRegLLoss
from pretrain.views import cell_centres

CASES = ("vicregl_resnet_two_views", "vicregl_multicrop", "vicregl_top_gamma_features")
GOLDEN_NAMES = {
    "global_invariance": "global_inv", "global_variance": "global_var",
    "global_covariance": "global_cov", "local_invariance": "local_inv",
    "local_variance": "local_var", "local_covariance": "local_cov",
}  # fmt: skip


def load(shared: Path, case: str) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    with np.load(shared / "golden" / f"{case}.npz") as data:
        arrays = dict(data)
    return arrays, json.loads(str(arrays["meta"]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_released_preset(shared: Path, case: str, dtype: torch.dtype, tolerance: float) -> None:
    arrays, meta = load(shared, case)
    views = range(len(meta["grids"]))
    maps = [torch.tensor(arrays[f"maps_{k}"], dtype=dtype, requires_grad=True) for k in views]
    embeddings = [torch.tensor(arrays[f"emb_{k}"], dtype=dtype, requires_grad=True) for k in views]
    locations = [torch.tensor(arrays[f"loc_{k}"]) for k in views]
    criterion = VICRegLLoss(
        alpha=meta["alpha"],
        num_matches=tuple(meta["num_matches"]),
        preset="released",
        feature_top_gamma=not meta["l2_all_matches"],
    )
    terms = criterion(maps, embeddings, locations)
    for name in TERMS:
        golden = float(arrays[GOLDEN_NAMES[name]])
        assert float(getattr(terms, name)) == pytest.approx(golden, rel=tolerance), name
    assert float(terms.total.detach()) == pytest.approx(float(arrays["total"]), rel=tolerance)
    terms.total.backward()
    for k in views:
        for tensor, name in ((maps[k], "grad_maps"), (embeddings[k], "grad_emb")):
            golden = torch.tensor(arrays[f"{name}_{k}"])
            scale = float(golden.abs().max())
            torch.testing.assert_close(tensor.grad.double(), golden, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("case", CASES)
def test_cell_centres(shared: Path, case: str) -> None:
    arrays, meta = load(shared, case)
    for k, n in enumerate(meta["grids"]):
        for crop, location in zip(arrays[f"crop_{k}"], arrays[f"loc_{k}"], strict=True):
            i, j, h, w, flip = crop.tolist()
            # golden locations are rounded to float32
            np.testing.assert_allclose(
                cell_centres(i, j, h, w, n, flip=bool(flip)).numpy(), location, atol=1e-4
            )
