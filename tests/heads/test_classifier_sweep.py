import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicregl_bench.heads.classifier_sweep import ClassifierSweep
from vicregl_bench.heads.sweep import HeadSpec

C, B = 5, 16
WIDTHS = {"last": 12, "layer 3.mean": 7}
GRID = [(lr, seed, name) for lr in (1.0, 0.3, 0.03) for seed in range(2) for name in WIDTHS]
HEADS = [HeadSpec(lr, seed) for lr, seed, _ in GRID]
INPUTS = [name for _, _, name in GRID]
STEPS = 20
SGD: dict[str, Any] = {"momentum": 0.9, "weight_decay": 5e-4}
# equal up to the order of summation: one stacked product against single ones
TOLERANCES = [(torch.float64, 1e-10), (torch.float32, 1e-5)]


def batch(seed: int, dtype: torch.dtype = torch.float64) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, C, (B,), generator=generator)
    features = {}
    for name, width in WIDTHS.items():
        drawn = torch.randn(B, width, generator=generator, dtype=torch.float64) * 2 + 1
        drawn[:, 0] += labels  # something to learn
        features[name] = drawn.to(dtype)
    return features, labels


def sweep_of(indices: list[int] | None = None, **options: Any) -> ClassifierSweep:
    chosen = range(len(HEADS)) if indices is None else indices
    heads, inputs = [HEADS[k] for k in chosen], [INPUTS[k] for k in chosen]
    return ClassifierSweep(WIDTHS, C, heads, inputs, **options)


def train(
    sweep: ClassifierSweep,
    steps: range,
    dtype: torch.dtype,
    optimizer: torch.optim.Optimizer | None = None,
) -> Tensor:
    """Train, and return the losses (steps, K)."""
    optimizer = optimizer or torch.optim.SGD(sweep.param_groups(), lr=1.0, **SGD)
    losses = []
    for step in steps:
        losses.append(sweep.accumulate_gradients(*batch(step, dtype)))
        optimizer.step()
    return torch.stack(losses)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_every_head_equals_a_run_of_plain_torch(
    dtype: torch.dtype, tolerance: float, batch_norm: bool
) -> None:
    sweep = sweep_of(dtype=dtype, batch_norm=batch_norm)
    starts = [[p.detach().clone() for p in sweep.head_parameters(k)] for k in range(len(HEADS))]
    losses = train(sweep, range(STEPS), dtype)
    ours = sweep.logits(batch(99, dtype)[0])
    assert ours.shape == (len(HEADS), B, C)
    for k, (head, name) in enumerate(zip(HEADS, INPUTS, strict=True)):
        linear = nn.Linear(WIDTHS[name], C, dtype=dtype)
        linear.weight.data, linear.bias.data = (p.clone() for p in starts[k])
        norm = nn.BatchNorm1d(WIDTHS[name], affine=False, dtype=dtype)
        model = nn.Sequential(norm, linear) if batch_norm else nn.Sequential(linear)
        optimizer = torch.optim.SGD(model.parameters(), lr=head.lr, **SGD)
        for step in range(STEPS):
            features, labels = batch(step, dtype)
            loss = nn.CrossEntropyLoss()(model(features[name]), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert abs(float(losses[step, k] - loss.detach())) <= tolerance * max(
                1.0, float(loss.detach())
            )
        for one, peer in zip(sweep.head_parameters(k), linear.parameters(), strict=True):
            assert (one - peer).norm() <= tolerance * peer.norm(), (head, name)
        assert (linear.weight - starts[k][0]).norm() > 0.1 * linear.weight.norm()  # it did train
        theirs = model.eval()(batch(99, dtype)[0][name]).detach()
        assert (ours[k] - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_one_head_alone_equals_the_same_among_many(
    dtype: torch.dtype, tolerance: float, batch_norm: bool
) -> None:
    options: dict[str, Any] = {"dtype": dtype, "batch_norm": batch_norm}
    together = sweep_of(**options)
    train(together, range(STEPS), dtype)
    for k in range(len(HEADS)):
        alone = sweep_of([k], **options)
        train(alone, range(STEPS), dtype)
        for one, own in zip(together.head_parameters(k), alone.head_parameters(0), strict=True):
            assert (one - own).norm() <= tolerance * own.norm(), HEADS[k]


def test_gradients_equal_autograd() -> None:
    sweep = sweep_of(dtype=torch.float64)
    features, labels = batch(0)
    losses = sweep.accumulate_gradients(features, labels)
    for k, name in enumerate(INPUTS):
        weight, bias = (p.detach().clone().requires_grad_() for p in sweep.head_parameters(k))
        loss = F.cross_entropy(F.linear(features[name], weight, bias), labels)
        loss.backward()
        torch.testing.assert_close(losses[k], loss.detach(), rtol=1e-12, atol=0)
        for parameter, plain in zip(sweep.head_parameters(k), (weight, bias), strict=True):
            torch.testing.assert_close(parameter.grad, plain.grad, rtol=1e-10, atol=1e-15)


def test_running_statistics_equal_batch_norm_and_ignore_the_mode() -> None:
    sweep = sweep_of(batch_norm=True, eps=1e-3, momentum=0.2)
    peers = {
        name: nn.BatchNorm1d(width, affine=False, eps=1e-3, momentum=0.2)
        for name, width in WIDTHS.items()
    }
    for step in range(3):
        features, labels = batch(step, torch.float32)
        sweep.train(step % 2 == 0)
        sweep.accumulate_gradients(features, labels)
        for name, peer in peers.items():
            peer(features[name])
    mean = torch.cat([peer.running_mean for peer in peers.values()])  # type: ignore[misc]
    var = torch.cat([peer.running_var for peer in peers.values()])  # type: ignore[misc]
    assert torch.equal(sweep.running_mean, mean)
    assert torch.equal(sweep.running_var, var)
    features, _ = batch(9, torch.float32)
    for mode in (True, False):
        found = sweep.train(mode).logits(features)
        for k, name in enumerate(INPUTS):
            expected = F.linear(peers[name].eval()(features[name]), *sweep.head_parameters(k))
            torch.testing.assert_close(found[k], expected.detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(sweep.running_mean, mean)


def test_initialisation_follows_from_seeds_alone() -> None:
    sweep = sweep_of()
    assert torch.equal(sweep.weights[0], sweep.weights[4])  # another learning rate
    assert not torch.equal(sweep.weights[0], sweep.weights[2])  # another seed
    assert torch.equal(sweep_of([2]).weights[0], sweep.weights[2])
    assert not torch.equal(sweep_of([2], run_seed=1).weights[0], sweep.weights[2])
    wide = ClassifierSweep({"x": 2048}, 100, [HeadSpec(0.1, 0)], ["x"])
    assert float(wide.weights[0].detach().std()) == pytest.approx(0.01, rel=0.01)
    assert not wide.biases[0].detach().any()


def test_resume_by_state_dict_is_exact() -> None:
    options: dict[str, Any] = {"batch_norm": True}
    whole = sweep_of(**options)
    losses = train(whole, range(STEPS), torch.float32)

    first = sweep_of(**options)
    optimizer = torch.optim.SGD(first.param_groups(), lr=1.0, **SGD)
    train(first, range(7), torch.float32, optimizer)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict()))
    second = sweep_of(run_seed=5, **options)
    resumed = torch.optim.SGD(second.param_groups(), lr=9.0, **SGD)
    second.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    rest = train(second, range(7, STEPS), torch.float32, resumed)

    assert torch.equal(rest, losses[7:])
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    assert int(second.iteration) == STEPS


def test_a_diverged_head_is_marked_and_the_others_go_on() -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(1e6, 0), HeadSpec(0.03, 1)]
    inputs = ["last", "last", "layer 3.mean"]
    sweep = ClassifierSweep(WIDTHS, C, heads, inputs)
    losses = train(sweep, range(STEPS), torch.float32)
    at = int(sweep.diverged_at[1])
    assert 0 < at < STEPS - 2
    assert sweep.diverged_at.tolist() == [-1, at, -1]
    assert torch.isfinite(losses[:at]).all()
    assert not torch.isfinite(losses[at, 1])
    assert losses[at + 1 :, 1].isnan().all()
    assert torch.isfinite(losses[:, [0, 2]]).all()
    assert sweep.weights[1].grad is None and sweep.biases[1].grad is None
    for k in (0, 2):
        alone = ClassifierSweep(WIDTHS, C, [heads[k]], [inputs[k]])
        train(alone, range(STEPS), torch.float32)
        torch.testing.assert_close(sweep.weights[k], alone.weights[0], rtol=1e-5, atol=1e-6)


def test_nothing_happens_once_all_have_diverged() -> None:
    sweep = sweep_of([0, 1], batch_norm=True)
    features, labels = batch(0, torch.float32)
    bad = {name: x * float("nan") for name, x in features.items()}
    assert sweep.accumulate_gradients(bad, labels).isnan().all()
    assert sweep.diverged_at.tolist() == [0, 0]
    assert sweep.accumulate_gradients(features, labels).isnan().all()
    assert int(sweep.iteration) == 1


def test_logits_that_are_not_finite_mark_a_head() -> None:
    sweep = sweep_of([0, 1, 2])
    train(sweep, range(2), torch.float32)
    sweep.weights[1].data.fill_(float("inf"))
    sweep.mark_not_finite(sweep.logits(batch(0, torch.float32)[0]))
    assert sweep.diverged_at.tolist() == [-1, 1, -1]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_features_of_inference_mode_and_of_other_types_will_do(batch_norm: bool) -> None:
    with torch.inference_mode():
        features, _ = batch(0, torch.bfloat16)
    _, labels = batch(0)
    sweep = sweep_of(batch_norm=batch_norm)
    assert torch.isfinite(train(sweep, range(1), torch.float32)).all()
    losses = sweep.accumulate_gradients(features, labels)
    assert losses.dtype == sweep.logits(features).dtype == torch.float32
    assert torch.isfinite(losses).all()
    torch.optim.SGD(sweep.param_groups(), lr=1.0).step()


def test_inputs_have_to_fit() -> None:
    with pytest.raises(ValueError, match="2 heads, but inputs of 1"):
        ClassifierSweep(WIDTHS, C, HEADS[:2], ["last"])
    with pytest.raises(ValueError, match="no width of the input 'first': last, layer 3"):
        ClassifierSweep(WIDTHS, C, HEADS[:1], ["first"])
    with pytest.raises(KeyError, match="last"):
        sweep_of().accumulate_gradients({}, batch(0)[1])
