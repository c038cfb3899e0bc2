"""SimCLR, Barlow Twins and SimCLR-L against slow transcriptions and, where present, lightly."""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pretrain.contrastive import GlobalLocalLoss, barlow_twins, nt_xent
from pretrain.losses import TERMS

B, C, D = 4, 5, 7
Inputs = tuple[list[Tensor], list[Tensor], list[Tensor]]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def views(grids: tuple[int, ...]) -> Inputs:
    maps = [draw(B, n * n, C, seed=v) for v, n in enumerate(grids)]
    embeddings = [draw(B, D, seed=10 + v) for v in range(len(grids))]
    locations = [90 * draw(B, n, n, 2, seed=20 + v).detach() for v, n in enumerate(grids)]
    return maps, embeddings, locations


def nt_xent_loop(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """SimCLR's Eq. 1, one anchor at a time, averaged over the 2B anchors of two (B, D)."""
    z = [*x, *y]
    total = torch.zeros((), dtype=x.dtype)
    for i in range(len(z)):
        logits = [F.cosine_similarity(z[i], other, dim=0) / temperature for other in z]
        denominator = sum(torch.exp(logits[k]) for k in range(len(z)) if k != i)
        total = total - torch.log(torch.exp(logits[(i + len(x)) % len(z)]) / denominator)
    return total / len(z)


def barlow_twins_matrix(x: Tensor, y: Tensor, off_diagonal: float) -> Tensor:
    """Eq. 1 from the D x D matrix."""
    x, y = ((z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + 1e-5) for z in (x, y))
    c = x.T @ y / len(x)
    off = c - torch.diag(torch.diag(c))
    return (torch.diag(c) - 1).pow(2).sum() + off_diagonal * off.pow(2).sum()


def transcribe(inputs: Inputs, num_matches: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Global and local SimCLR-L, one ordered pair, direction, picture and cell at a time."""
    maps, embeddings, locations = inputs
    pairs = [(i, j) for i in range(2) for j in range(len(maps)) if i != j]
    total = [torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)]
    for i, j in pairs:
        total[0] = total[0] + nt_xent_loop(embeddings[i], embeddings[j], 0.1) / len(pairs)
        for a, b in ((i, j), (j, i)):
            gamma = num_matches[0] if a < 2 else num_matches[1]
            for space in ([place.flatten(1, 2) for place in locations], maps):
                kept_x, kept_y = [], []
                for n in range(B):
                    found = []
                    for p in range(maps[a].shape[1]):
                        distances = (space[a][n, p] - space[b][n]).detach().norm(dim=-1).tolist()
                        q = distances.index(min(distances))
                        found.append((distances[q], p, q))
                    best = sorted(sorted(found)[:gamma], key=lambda match: match[1])
                    kept_x.append(torch.stack([maps[a][n, p] for _, p, _ in best]))
                    kept_y.append(torch.stack([maps[b][n, q] for _, _, q in best]))
                x, y = torch.stack(kept_x), torch.stack(kept_y)
                for slot in range(gamma):
                    value = nt_xent_loop(x[:, slot], y[:, slot], 0.1)
                    total[1] = total[1] + value / gamma / len(pairs)
    return total[0], total[1]


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_equals_the_loop(temperature: float) -> None:
    x, y = draw(B, 3, D), draw(B, 3, D, seed=1)
    slots = [nt_xent_loop(x[:, m], y[:, m], temperature) for m in range(3)]
    torch.testing.assert_close(nt_xent(x[:, 0], y[:, 0], temperature), slots[0])
    torch.testing.assert_close(nt_xent(x, y, temperature), torch.stack(slots).mean())


def test_nt_xent_of_aligned_and_orthogonal_pictures() -> None:
    """Each anchor has similarity 1 to its positive and 0 to its 2B - 2 negatives."""
    x = torch.eye(B, dtype=torch.float64)
    expected = math.log(math.exp(1 / 0.1) + 2 * B - 2) - 1 / 0.1
    torch.testing.assert_close(float(nt_xent(3 * x, 0.2 * x)), expected)


def test_nt_xent_equals_lightly() -> None:
    lightly = pytest.importorskip("lightly.loss")
    x, y = draw(B, D), draw(B, D, seed=1)
    torch.testing.assert_close(nt_xent(x, y), lightly.NTXentLoss(temperature=0.1)(x, y))


@pytest.mark.parametrize("width", [3, 9])  # both ways to the sum of squares
def test_barlow_twins_equals_its_matrix_and_lightly(width: int) -> None:
    x, y = draw(6, width), draw(6, width, seed=1)
    torch.testing.assert_close(barlow_twins(x, y), barlow_twins_matrix(x, y, 0.0051))
    torch.testing.assert_close(barlow_twins(x, y, 0.3), barlow_twins_matrix(x, y, 0.3))
    lightly = pytest.importorskip("lightly.loss")
    torch.testing.assert_close(barlow_twins(x, y, 0.3), lightly.BarlowTwinsLoss(0.3)(x, y))


def test_barlow_twins_of_a_constant_dimension_stays_finite() -> None:
    x = torch.cat([draw(6, 3).detach(), torch.ones(6, 1, dtype=torch.float64)], dim=1)
    x.requires_grad_()
    value = barlow_twins(x, x)
    # three correlations near 1 and one of 0, plus lambda times the off-diagonal ones
    assert 1.0 <= float(value.detach()) < 1.0 + 6 * 0.0051 + 1e-6
    assert torch.autograd.grad(value, x)[0].isfinite().all()


@pytest.mark.parametrize("grids", [(3, 3), (3, 3, 2)])
def test_simclr_l_equals_the_transcription(grids: tuple[int, ...]) -> None:
    inputs = views(grids)
    terms = GlobalLocalLoss(0.6, (5, 3))(*inputs)
    global_value, local_value = transcribe(inputs, (5, 3))
    torch.testing.assert_close(terms.global_invariance, global_value.detach())
    torch.testing.assert_close(terms.local_invariance, local_value.detach())
    assert all(float(getattr(terms, name)) == 0.0 for name in TERMS if "invariance" not in name)
    total = 0.6 * global_value + 0.4 * local_value
    torch.testing.assert_close(terms.total, total)
    tensors = [*inputs[0], *inputs[1]]
    ours = torch.autograd.grad(terms.total, tensors)
    for a, b in zip(ours, torch.autograd.grad(total, tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-13)


def test_gradients_are_those_of_the_values() -> None:
    x, y = draw(3, 2, 3), draw(3, 2, 3, seed=1)
    assert torch.autograd.gradcheck(nt_xent, (x, y))
    for width in (2, 4):
        assert torch.autograd.gradcheck(barlow_twins, (draw(3, width), draw(3, width, seed=1)))


def test_alpha_1_is_the_global_criterion_and_needs_no_maps() -> None:
    _, embeddings, _ = views((3, 3))
    simclr = GlobalLocalLoss(1.0)([], embeddings, [])
    torch.testing.assert_close(simclr.total, nt_xent(*embeddings))
    twins = GlobalLocalLoss(1.0, criterion="barlow_twins", off_diagonal=0.1)([], embeddings, [])
    torch.testing.assert_close(twins.total, barlow_twins(*embeddings, off_diagonal=0.1))
    assert float(simclr.local_invariance) == float(twins.local_invariance) == 0.0


def test_alpha_0_is_the_local_criterion_and_needs_no_embeddings() -> None:
    maps, _, locations = views((3, 3))
    terms = GlobalLocalLoss(0.0, (4, 2))(maps, [], locations)
    torch.testing.assert_close(terms.total.detach(), terms.local_invariance)
    assert float(terms.global_invariance) == 0.0


def test_matching_is_a_switch() -> None:
    inputs = views((3, 3))
    both, location, feature, neither = (
        float(GlobalLocalLoss(0.5, (4, 2), matching=m)(*inputs).local_invariance)
        for m in (("location", "feature"), ("location",), ("feature",), ())
    )
    assert both == pytest.approx(location + feature, rel=1e-12)
    assert neither == 0.0
    every = GlobalLocalLoss(0.5, (4, 2), matching=("feature",), feature_top_gamma=False)(*inputs)
    whole = GlobalLocalLoss(0.5, (9, 9), matching=("feature",))(*inputs)
    torch.testing.assert_close(every.total, whole.total, rtol=0, atol=0)
    assert float(every.local_invariance) != feature


def two_processes(rank: int, store: str) -> None:
    """Half a batch in each process: the loss of the whole batch, and twice its gradient."""
    inputs = views((3, 3, 2))
    whole = [*inputs[0], *inputs[1]]
    criteria = [GlobalLocalLoss(0.6, (5, 3)), GlobalLocalLoss(1.0, criterion="barlow_twins")]
    expected = [criterion(*inputs).total for criterion in criteria]
    rows = slice(rank * B // 2, (rank + 1) * B // 2)
    halves = [[t.detach()[rows].requires_grad_() for t in part] for part in inputs]
    half = [*halves[0], *halves[1]]
    dist.init_process_group(
        "gloo", f"file://{store}", timeout=timedelta(seconds=60), rank=rank, world_size=2
    )
    try:
        for criterion, value in zip(criteria, expected, strict=True):
            own = criterion(*halves).total
            torch.testing.assert_close(own, value)
            grads = torch.autograd.grad(value, whole, materialize_grads=True)
            for a, b in zip(
                torch.autograd.grad(own, half, materialize_grads=True), grads, strict=True
            ):
                torch.testing.assert_close(a, 2 * b[rows])
    finally:
        dist.destroy_process_group()


def test_two_processes_see_one_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(two_processes, (str(tmp_path / "store"),), nprocs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"criterion": "vicreg"}, "criterion 'vicreg'"),
        ({"criterion": "barlow_twins"}, "use alpha = 1"),
        ({"matching": ("colour",)}, "matching"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalLocalLoss(**options)


def test_impossible_inputs() -> None:
    maps, embeddings, locations = views((3, 3))
    with pytest.raises(ValueError, match="gamma is 20, but the map has 9 cells"):
        GlobalLocalLoss()(maps, embeddings, locations)
    with pytest.raises(ValueError, match="two are needed"):
        GlobalLocalLoss()(maps[:1], embeddings[:1], locations[:1])
    for criterion in (nt_xent, barlow_twins):
        with pytest.raises(ValueError, match="batch of at least 2"):
            criterion(embeddings[0][:1], embeddings[1][:1])
        with pytest.raises(ValueError, match="differ in shape"):
            criterion(embeddings[0], embeddings[1][:2])
    with pytest.raises(ValueError, match="temperature"):
        nt_xent(*embeddings, temperature=-1.0)
