"""The paper's preset against a slow transcription, and the properties of the criterion."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.losses import TERMS, VICRegLLoss
from pretrain.views import cell_centres

B, C, D = 6, 5, 7


def views(
    grids: tuple[int, ...], seed: int = 0, width: int = C
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    maps = [draw(B, n * n, width) for n in grids]
    embeddings = [draw(B, D) for _ in grids]
    corners = torch.randint(0, 60, (len(grids), B, 5), generator=generator)
    locations = [
        torch.stack(
            [
                cell_centres(i, j, 90 + h, 80 + w, n, flip=bool(f % 2))
                for i, j, h, w, f in corners[v].tolist()
            ]
        )
        for v, n in enumerate(grids)
    ]
    # whole-pixel crops have ties in distance, which an order of summation would settle
    for place in locations:
        place += 0.01 * torch.rand(place.shape, generator=generator, dtype=torch.float64)
    return maps, embeddings, locations


def vicreg(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Line by line after Algorithm 1: the three parts, with coefficients, of two (B, D)."""
    parts = [25 * F.mse_loss(x, y), torch.zeros((), dtype=x.dtype), torch.zeros((), dtype=x.dtype)]
    for z in (x, y):
        std = torch.sqrt(z.var(dim=0) + 1e-4)
        parts[1] = parts[1] + 25 * torch.mean(torch.relu(1 - std))
        centred = z - z.mean(dim=0)
        cov = centred.T @ centred / (len(z) - 1)
        off = cov - torch.diag(torch.diag(cov))
        parts[2] = parts[2] + off.pow(2).sum() / z.shape[1]
    return parts[0], parts[1], parts[2]


def transcribe(
    maps: list[Tensor],
    embeddings: list[Tensor],
    locations: list[Tensor],
    alpha: float,
    num_matches: tuple[int, int],
) -> tuple[list[Tensor], Tensor]:
    """Eq. 1 to 5 and Algorithm 1, one picture and cell at a time."""
    sums: list[Any] = [0.0] * 6
    pairs = [(i, j) for i in range(2) for j in range(len(maps)) if i != j]
    for i, j in pairs:
        for k, part in enumerate(vicreg(embeddings[i], embeddings[j])):
            sums[k] = sums[k] + part / len(pairs)
        for a, b in ((i, j), (j, i)):
            gamma = num_matches[0] if a < 2 else num_matches[1]
            for kind in ("location", "feature"):
                space = [place.flatten(1, 2) for place in locations] if kind == "location" else maps
                kept_x, kept_y = [], []
                for n in range(B):
                    found = []
                    for p in range(maps[a].shape[1]):
                        distances = [
                            float((space[a][n, p] - space[b][n, q]).detach().norm())
                            for q in range(maps[b].shape[1])
                        ]
                        q = min(range(len(distances)), key=lambda q: distances[q])
                        found.append((distances[q], p, q))
                    best = sorted(sorted(found)[:gamma], key=lambda match: match[1])
                    kept_x.append(torch.stack([maps[a][n, p] for _, p, _ in best]))
                    kept_y.append(torch.stack([maps[b][n, q] for _, _, q in best]))
                x, y = torch.stack(kept_x), torch.stack(kept_y)
                for slot in range(gamma):
                    for k, part in enumerate(vicreg(x[:, slot], y[:, slot])):
                        sums[3 + k] = sums[3 + k] + part / gamma / len(pairs)
    return sums, alpha * sum(sums[:3]) + (1 - alpha) * sum(sums[3:])


@pytest.mark.parametrize("grids", [(4, 4), (3, 4), (4, 4, 2), (4, 4, 3, 2)])
def test_paper_preset_equals_the_transcription(grids: tuple[int, ...]) -> None:
    inputs = views(grids)
    terms = VICRegLLoss(alpha=0.6, num_matches=(5, 3))(*inputs)
    parts, total = transcribe(*inputs, 0.6, (5, 3))
    for name, part in zip(TERMS, parts, strict=True):
        torch.testing.assert_close(getattr(terms, name), part.detach(), rtol=1e-12, atol=0)
    tensors = [*inputs[0], *inputs[1]]
    ours = torch.autograd.grad(terms.total, tensors)
    theirs = torch.autograd.grad(total, tensors)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("width", [3, 40])  # both sides of the smaller Gram matrix
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_gradients_are_those_of_the_values(preset: Any, width: int) -> None:
    maps, embeddings, locations = views((3, 3, 2), width=width)
    criterion = VICRegLLoss(num_matches=(4, 2), preset=preset)

    def total(*tensors: Tensor) -> Tensor:
        return criterion(list(tensors[:3]), list(tensors[3:]), locations).total

    assert torch.autograd.gradcheck(total, (*maps, *embeddings), atol=1e-6, fast_mode=True)


def test_alpha_1_is_vicreg_and_needs_no_maps() -> None:
    _, embeddings, _ = views((3, 3))
    terms = VICRegLLoss(alpha=1.0)([], embeddings, [])
    parts = vicreg(*embeddings)
    torch.testing.assert_close(terms.total, sum(parts), rtol=1e-12, atol=0)
    assert float(terms.local_invariance) == 0.0
    released = VICRegLLoss(alpha=1.0, preset="released")([], embeddings, [])
    torch.testing.assert_close(released.global_variance, parts[1].detach() / 2)
    torch.testing.assert_close(released.global_covariance, parts[2].detach() / 2)


def test_alpha_0_is_local_alone() -> None:
    maps, _, locations = views((3, 3))
    terms = VICRegLLoss(alpha=0.0, num_matches=(4, 2))(maps, [], locations)
    local = terms.local_invariance + terms.local_variance + terms.local_covariance
    torch.testing.assert_close(terms.total.detach(), local)
    assert float(terms.global_variance) == 0.0


def test_ablations_are_switches() -> None:
    inputs = views((3, 3))
    both, location, feature, neither = (
        VICRegLLoss(num_matches=(4, 2), matching=m)(*inputs)
        for m in (("location", "feature"), ("location",), ("feature",), ())
    )
    for name in TERMS[3:]:
        total = getattr(location, name) + getattr(feature, name)
        torch.testing.assert_close(getattr(both, name), total)
        assert float(getattr(neither, name)) == 0.0
    vi = VICRegLLoss(num_matches=(4, 2), local_criterion="VI")(*inputs)
    only_i = VICRegLLoss(num_matches=(4, 2), local_criterion="I")(*inputs)
    torch.testing.assert_close(vi.local_variance, both.local_variance)
    assert float(vi.local_covariance) == float(only_i.local_variance) == 0.0
    torch.testing.assert_close(only_i.local_invariance, both.local_invariance)
    torch.testing.assert_close(only_i.global_covariance, both.global_covariance)


def test_order_of_the_batch_does_not_matter() -> None:
    maps, embeddings, locations = views((3, 3, 2))
    order = torch.randperm(B)
    criterion = VICRegLLoss(num_matches=(4, 2))
    one = criterion(maps, embeddings, locations).total
    other = criterion(*([t[order] for t in part] for part in (maps, embeddings, locations))).total
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha"),
        ({"preset": "mine"}, "preset"),
        ({"matching": ("colour",)}, "matching"),
        ({"local_criterion": "C"}, "local criterion"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VICRegLLoss(**options)


def test_impossible_inputs() -> None:
    maps, embeddings, locations = views((3, 3))
    with pytest.raises(ValueError, match="gamma is 20, but the map has 9 cells"):
        VICRegLLoss()(maps, embeddings, locations)
    with pytest.raises(ValueError, match="batch of at least 2"):
        VICRegLLoss(alpha=1.0)([], [e[:1] for e in embeddings], [])
    with pytest.raises(ValueError, match="two are needed"):
        VICRegLLoss()(maps[:1], embeddings[:1], locations[:1])
