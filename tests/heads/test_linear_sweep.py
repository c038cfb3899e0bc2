import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicregl_bench.heads.linear_sweep import LinearSweep
from vicregl_bench.heads.sweep import HeadSpec

D, C = 12, 5
RELEASED: dict[str, Any] = {"batch_norm": True, "dropout": 0.3}


def batch(seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(3, D, 6, 7, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, C, (3, 30, 41), generator=generator)
    labels[:, :4] = 255
    return features, labels


def train(sweep: LinearSweep, steps: int, dtype: torch.dtype) -> LinearSweep:
    optimizer = torch.optim.SGD(sweep.param_groups(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    for step in range(steps):
        sweep.accumulate_gradients(*batch(step, dtype))
        optimizer.step()
        optimizer.zero_grad()
    return sweep


def pyramid(features: Tensor) -> list[Tensor]:
    """The same channels as maps of several sizes, the largest first."""
    first, second, third = features.split([5, 4, 3], dim=1)
    return [first, F.adaptive_avg_pool2d(second, (3, 4)), F.adaptive_avg_pool2d(third, 2)]


def concatenated(maps: list[Tensor]) -> Tensor:
    size = maps[0].shape[2:]
    return torch.cat([F.interpolate(one, size=size, mode="bilinear") for one in maps], dim=1)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"batch_norm": True}, RELEASED])
def test_gradients_equal_autograd_of_the_plain_layers(
    options: dict[str, Any], several: bool
) -> None:
    """Several maps are never concatenated here, and equal their plain concatenation."""
    heads = [HeadSpec(0.1, 0), HeadSpec(0.1, 1)]
    sweep = LinearSweep(D, C, heads, dtype=torch.float64, **options)
    for parameters in (sweep.gammas, sweep.betas):  # away from their trivial start
        for p in parameters:
            p.data += 0.1 * torch.randn(D, dtype=torch.float64)
    features, labels = batch(0, torch.float64)
    masks = sweep._dropout_masks(len(features), range(2))
    maps = pyramid(features) if several else [features]
    losses = sweep.accumulate_gradients(maps, labels)
    features = concatenated(maps)
    for k in range(2):
        ours = sweep.head_parameters(k)
        weight, bias, *affine = [p.detach().clone().requires_grad_() for p in ours]
        x = F.batch_norm(features, None, None, *affine, training=True) if affine else features
        x = x if masks is None else x * masks[k][:, :, None, None]
        logits = F.conv2d(x, weight[:, :, None, None], bias)
        dense = F.interpolate(logits, size=labels.shape[1:], mode="bilinear")
        loss = F.cross_entropy(dense, labels, ignore_index=255, reduction="none").mean()
        loss.backward()
        torch.testing.assert_close(losses[k], loss.detach(), rtol=1e-12, atol=0)
        for parameter, plain in zip(ours, [weight, bias, *affine], strict=True):
            torch.testing.assert_close(parameter.grad, plain.grad, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("several", [False, True])
def test_running_statistics_and_evaluation_equal_batch_norm(several: bool) -> None:
    sweep = LinearSweep(D, C, [HeadSpec(0.1, 0)], dtype=torch.float64, batch_norm=True)
    peer = nn.BatchNorm2d(D, dtype=torch.float64)
    for step in range(3):
        features, labels = batch(step, torch.float64)
        maps = pyramid(features) if several else [features]
        sweep.accumulate_gradients(maps, labels)
        peer(concatenated(maps))
    torch.testing.assert_close(sweep.running_mean, peer.running_mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(sweep.running_var, peer.running_var, rtol=1e-12, atol=0)
    features, _ = batch(9, torch.float64)
    maps = pyramid(features) if several else [features]
    expected = F.conv2d(peer.eval()(concatenated(maps)), sweep.weights[0][:, :, None, None])
    ours = sweep.logits([one[1] for one in maps])[0]
    torch.testing.assert_close(ours, expected[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("options", [{}, RELEASED])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # equal up to the order of summation: one stacked product against single ones
    [(torch.float64, 1e-10), (torch.float32, 1e-5)],
)
def test_every_head_ends_where_its_own_run_would(
    options: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    heads = [HeadSpec(lr, seed) for lr in (0.3, 0.1, 0.03) for seed in range(2)]
    together = train(LinearSweep(D, C, heads, dtype=dtype, **options), 20, dtype)
    for k, head in enumerate(heads):
        alone = train(LinearSweep(D, C, [head], dtype=dtype, **options), 20, dtype)
        start = LinearSweep(D, C, [head], dtype=dtype, **options)
        for one, own, begun in zip(
            together.head_parameters(k),
            alone.head_parameters(0),
            start.head_parameters(0),
            strict=True,
        ):
            distance = (one - own).norm() / own.norm()
            assert distance <= tolerance, (head, float(distance))
            assert (own - begun).norm() > 1e-3 * own.norm()  # it did train


def test_initialisation_follows_from_seeds_alone() -> None:
    many = LinearSweep(D, C, [HeadSpec(lr, s) for lr in (0.1, 0.01) for s in range(3)])
    assert torch.equal(many.weights[1], many.weights[4])
    assert not torch.equal(many.weights[0], many.weights[1])
    assert torch.equal(LinearSweep(D, C, [HeadSpec(9.0, 2)]).weights[0], many.weights[2])
    assert not torch.equal(
        LinearSweep(D, C, [HeadSpec(9.0, 2)], run_seed=1).weights[0], many.weights[2]
    )
    wide = LinearSweep(2048, 21, [HeadSpec(0.1, 0)]).weights[0]
    assert float(wide.detach().std()) == pytest.approx(0.01, rel=0.02)


def test_dropout_differs_by_seed_and_iteration_and_keeps_the_mean() -> None:
    sweep = LinearSweep(
        4000, C, [HeadSpec(0.1, 0), HeadSpec(0.2, 0), HeadSpec(0.1, 1)], dropout=0.1
    )
    first = sweep._dropout_masks(2, range(3))
    assert first is not None
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert float((first == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float(first.max()) == pytest.approx(1 / 0.9)
    sweep.iteration += 1
    second = sweep._dropout_masks(2, range(3))
    assert second is not None and not torch.equal(first, second)


def test_state_restores_a_run_in_the_middle() -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(0.03, 1)]
    sweep = LinearSweep(D, C, heads, dtype=torch.float64, **RELEASED)
    train(sweep, 3, torch.float64)
    copied = LinearSweep(D, C, heads, dtype=torch.float64, **RELEASED)
    copied.load_state_dict(copy.deepcopy(sweep.state_dict()))
    features, labels = batch(7, torch.float64)
    assert torch.equal(
        sweep.accumulate_gradients(features, labels), copied.accumulate_gradients(features, labels)
    )


def test_a_diverged_head_is_marked_and_the_others_go_on() -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(1e300, 0)]
    sweep = train(LinearSweep(D, C, heads, dtype=torch.float64), 6, torch.float64)
    alone = train(LinearSweep(D, C, heads[:1], dtype=torch.float64), 6, torch.float64)
    assert sweep.diverged_at[0] == -1
    assert 0 < int(sweep.diverged_at[1]) < 6
    torch.testing.assert_close(sweep.weights[0], alone.weights[0], rtol=1e-10, atol=0)


def test_features_made_in_inference_mode_will_do() -> None:
    with torch.inference_mode():
        features, _ = batch(0, torch.float32)
    _, labels = batch(0, torch.float32)
    sweep = LinearSweep(D, C, [HeadSpec(0.1, 0)], batch_norm=True)
    losses = sweep.accumulate_gradients(features, labels)
    assert torch.isfinite(losses).all()
