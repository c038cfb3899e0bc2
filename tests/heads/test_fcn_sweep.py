import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from vicregl_bench.heads.fcn_sweep import FcnOptions, FcnSweep
from vicregl_bench.heads.streams import DROPOUT, seeded
from vicregl_bench.heads.sweep import HeadSpec

D, D2, C = 16, 8, 5
DECODE = FcnOptions(channels=8, num_convs=2, concat_input=True, dropout=0.3)
AUXILIARY = FcnOptions(channels=4, num_convs=1, concat_input=False, dropout=0.3)
WEIGHT = 0.4
CPU = torch.device("cpu")


def batch(seed: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Labels follow from the main map; the auxiliary one has another size, not to be confused."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(3, D, 6, 6), (3, D2, 12, 12)]
    maps = [torch.rand(s, generator=generator, dtype=torch.float64).to(dtype) for s in sizes]
    labels = F.interpolate(maps[0][:, :C], size=24).argmax(dim=1)
    labels[:, :4] = 255
    return maps, labels


def make(
    heads: Sequence[HeadSpec],
    dtype: torch.dtype = torch.float64,
    *,
    dropout: float = 0.3,
    run_seed: int = 0,
) -> FcnSweep:
    return FcnSweep(
        D,
        C,
        heads,
        decode=replace(DECODE, dropout=dropout),
        auxiliary=replace(AUXILIARY, dropout=dropout),
        auxiliary_channels=D2,
        auxiliary_weight=WEIGHT,
        run_seed=run_seed,
        dtype=dtype,
    )


def sgd(groups: list[dict[str, object]]) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9, weight_decay=5e-4)


def train(
    sweep: FcnSweep, steps: range, dtype: torch.dtype, optimizer: torch.optim.SGD | None = None
) -> Tensor:
    """Losses (steps, K)."""
    optimizer = optimizer or sgd(sweep.param_groups())
    losses = []
    for step in steps:
        losses.append(sweep.accumulate_gradients(*batch(step, dtype)))
        optimizer.step()
    return torch.stack(losses)


def own_state(sweep: FcnSweep, k: int) -> list[Tensor]:
    pair = (sweep.decode_heads[k], sweep.auxiliary_heads[k])
    return [tensor for module in pair for tensor in module.state_dict().values()]


class Peer:
    """mmseg's two heads with their own loss, trained as `EncoderDecoder` trains them."""

    def __init__(self, sweep: FcnSweep, k: int, dropout: float) -> None:
        self.pair = []
        for index, options, channels, weight, source in (
            (0, DECODE, D, 1.0, sweep.decode_heads[k]),
            (1, AUXILIARY, D2, WEIGHT, sweep.auxiliary_heads[k]),
        ):
            head = FCNHead(
                in_channels=channels,
                in_index=index,
                channels=options.channels,
                num_convs=options.num_convs,
                concat_input=options.concat_input,
                dropout_ratio=dropout,
                num_classes=C,
                norm_cfg={"type": "BN", "requires_grad": True},
                align_corners=False,
                loss_decode={"type": CrossEntropyLoss, "loss_weight": weight},
            )
            head.to(next(source.parameters()).dtype).load_state_dict(source.state_dict())
            self.pair.append(head.train())

    def loss(self, maps: list[Tensor], labels: Tensor) -> Tensor:
        samples = []
        for one in labels:
            sample = SegDataSample()
            sample.set_data({"gt_sem_seg": PixelData(data=one[None])})
            samples.append(sample)
        total: Tensor = sum(head.loss(maps, samples, {})["loss_ce"] for head in self.pair)
        return total


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # mmseg adds float32's epsilon to the 1728 pixels that it divides by: 7e-11; in float32 what
    # differs is the order of summation, and every step carries the difference on
    [(torch.float64, 1e-10), (torch.float32, 1e-5)],
)
def test_training_equals_that_of_mmseg(
    dtype: torch.dtype, tolerance: float, dropout: float
) -> None:
    heads = [HeadSpec(1.0, 0), HeadSpec(0.5, 3)]
    sweep = make(heads, dtype, dropout=dropout)
    start = [p.detach().clone() for p in sweep.parameters()]
    peers = [Peer(sweep, k, dropout) for k in range(len(heads))]
    ours = train(sweep, range(5), dtype)
    for p, begun in zip(sweep.parameters(), start, strict=True):
        assert (p - begun).norm() > 1e-3 * p.norm()  # it did train, main and auxiliary
    for k, (head, peer) in enumerate(zip(heads, peers, strict=True)):
        parameters = [p for module in peer.pair for p in module.parameters()]
        optimizer = sgd([{"params": parameters, "lr": head.lr}])
        for step in range(5):
            optimizer.zero_grad()
            with seeded(CPU, 0, head.seed, DROPOUT, step):
                loss = peer.loss(*batch(step, dtype))
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(ours[step, k], loss.detach(), rtol=tolerance, atol=0)
        theirs = [t for module in peer.pair for t in module.state_dict().values()]
        for one, other in zip(own_state(sweep, k), theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_evaluation_equals_that_of_mmseg() -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(0.03, 1)]
    sweep = make(heads)
    train(sweep, range(2), torch.float64)
    maps, _ = batch(9, torch.float64)
    picture = [one[1] for one in maps]
    ours = sweep.train().logits(picture)
    assert ours.shape == (2, C, 6, 6) and not ours.requires_grad
    for k in range(2):
        with torch.no_grad():
            theirs = Peer(sweep, k, 0.3).pair[0].eval()(maps)[1]
        torch.testing.assert_close(ours[k], theirs, rtol=1e-12, atol=1e-14)
    assert torch.equal(ours, sweep.logits(picture[0]))  # the auxiliary head takes no part


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_head_ends_exactly_where_its_own_run_would(dtype: torch.dtype) -> None:
    heads = [HeadSpec(lr, seed) for lr in (0.1, 0.03) for seed in range(2)]
    together = make(heads, dtype)
    losses = train(together, range(4), dtype)
    for k, head in enumerate(heads):
        alone = make([head], dtype)
        assert torch.equal(train(alone, range(4), dtype)[:, 0], losses[:, k])
        for one, own in zip(own_state(together, k), own_state(alone, 0), strict=True):
            assert torch.equal(one, own)
    assert losses[:, 0].ne(losses[:, 1]).all()


def test_a_run_resumed_from_its_state_is_the_whole_run() -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(0.03, 1), HeadSpec(1e300, 0)]
    whole = make(heads)
    optimizer = sgd(whole.param_groups())
    train(whole, range(3), torch.float64, optimizer)
    state = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    expected = train(whole, range(3, 6), torch.float64, optimizer)

    torch.manual_seed(77)  # no random state but what the sweep makes
    resumed = make(heads, run_seed=0)
    optimizer = sgd(resumed.param_groups())
    resumed.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    losses = train(resumed, range(3, 6), torch.float64, optimizer)
    torch.testing.assert_close(losses, expected, rtol=0, atol=0, equal_nan=True)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(
            resumed.state_dict()[name], tensor, rtol=0, atol=0, equal_nan=True
        )
    assert int(resumed.iteration) == 6


def test_a_diverged_head_is_marked_and_the_others_go_on() -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(1e30, 0), HeadSpec(0.03, 1)]
    dtype = torch.float32
    sweep = make(heads, dtype)
    optimizer = sgd(sweep.param_groups())
    losses = train(sweep, range(5), dtype, optimizer)
    at = int(sweep.diverged_at[1])
    assert sweep.diverged_at.tolist() == [-1, at, -1]
    assert 0 < at < 4
    assert losses[:at, 1].isfinite().all() and losses[at + 1 :, 1].isnan().all()
    assert all(p.grad is None for p in sweep.head_parameters(1))
    assert all(p.grad is not None for p in sweep.head_parameters(2))
    left = copy.deepcopy(own_state(sweep, 1))
    train(sweep, range(5, 6), dtype, optimizer)
    for before, after in zip(left, own_state(sweep, 1), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0, equal_nan=True)
    for k in (0, 2):
        alone = make([heads[k]], dtype)
        train(alone, range(6), dtype)
        for one, own in zip(own_state(sweep, k), own_state(alone, 0), strict=True):
            assert torch.equal(one, own)
    logits = sweep.logits([one[0] for one in batch(0, dtype)[0]])
    assert logits[1].isnan().all() and logits[[0, 2]].isfinite().all()
    sweep.diverged_at.fill_(0)
    assert sweep.accumulate_gradients(*batch(0, dtype)).isnan().all()
    assert int(sweep.iteration) == 6


def test_ignored_labels_give_nothing() -> None:
    sweep = make([HeadSpec(0.1, 0)])
    maps, labels = batch(0, torch.float64)
    assert sweep.accumulate_gradients(maps, torch.full_like(labels, 255)).tolist() == [0.0]
    assert all(not p.grad.any() for p in sweep.parameters() if p.grad is not None)

    half = labels.clone()
    half[1:] = 255
    loss = make([HeadSpec(0.1, 0)]).accumulate_gradients(maps, half)
    whole = make([HeadSpec(0.1, 0)]).accumulate_gradients(maps, labels)
    # close to log C a pixel before training: a third of the pixels counts, the divisor is the same
    assert float(loss / whole) == pytest.approx(1 / 3, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_maps_made_in_inference_mode_and_in_float32_will_do(dtype: torch.dtype) -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(0.1, 1)]
    with torch.inference_mode():
        made, _ = batch(0, torch.float32)
    plain, labels = batch(0, torch.float32)
    sweep, peer = make(heads, dtype), make(heads, dtype)
    assert torch.equal(
        sweep.accumulate_gradients(made, labels), peer.accumulate_gradients(plain, labels)
    )
    for one, other in zip(sweep.parameters(), peer.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad)
    with torch.no_grad():
        ours = sweep.logits([one[0] for one in made])
    assert torch.equal(ours, peer.logits([one[0] for one in plain]))


def test_stale_gradients_and_the_mode_do_not_matter() -> None:
    sweep, peer = make([HeadSpec(0.1, 0)]).eval(), make([HeadSpec(0.1, 0)]).train()
    for p in sweep.parameters():
        p.grad = torch.ones_like(p)
    features, labels = batch(0, torch.float64)
    state = torch.get_rng_state()
    with torch.no_grad():
        losses = sweep.accumulate_gradients(features, labels)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(losses, peer.accumulate_gradients(features, labels))
    for one, other in zip(sweep.parameters(), peer.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_initialisation_follows_from_seeds_alone(capfd: pytest.CaptureFixture[str]) -> None:
    state = torch.get_rng_state()
    many = make([HeadSpec(lr, s) for lr in (0.1, 0.01) for s in range(2)])
    assert torch.equal(state, torch.get_rng_state())
    for k, other in ((0, 2), (1, 3)):
        for one, same in zip(own_state(many, k), own_state(many, other), strict=True):
            assert torch.equal(one, same)
    first, second = (many.decode_heads[k].conv_seg.weight for k in range(2))
    assert not torch.equal(first, second)
    alone = make([HeadSpec(9.0, 1)])
    for one, same in zip(own_state(many, 1), own_state(alone, 0), strict=True):
        assert torch.equal(one, same)
    other_run = make([HeadSpec(9.0, 1)], run_seed=1)
    assert not torch.equal(other_run.decode_heads[0].conv_seg.weight, second)
    assert capfd.readouterr().out == ""  # mmengine's lines would break --json


def test_initialisation_is_that_of_mmseg_and_stays() -> None:
    sweep = FcnSweep(
        64,
        21,
        [HeadSpec(0.1, 0)],
        decode=FcnOptions(channels=512, num_convs=1, concat_input=False, dropout=0.1),
        auxiliary=AUXILIARY,
        auxiliary_channels=D2,
        auxiliary_weight=WEIGHT,
    )
    head = sweep.decode_heads[0]
    assert float(head.conv_seg.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert not head.conv_seg.bias.any()
    # Kaiming, fan out: sqrt(2 / (512 * 9))
    assert float(head.convs[0].conv.weight.detach().std()) == pytest.approx(0.020833, rel=0.02)

    class Model(BaseModule):
        def __init__(self) -> None:
            super().__init__()
            self.sweep = sweep

    before = copy.deepcopy(sweep.state_dict())
    Model().init_weights()  # mmengine's runner calls it before training
    assert all(torch.equal(before[name], t) for name, t in sweep.state_dict().items())


def test_parameters_are_grouped_by_head() -> None:
    sweep = make([HeadSpec(0.1, 0), HeadSpec(0.03, 0)])
    groups = sweep.param_groups()
    assert [group["lr"] for group in groups] == [0.1, 0.03]
    grouped = [p for group in groups for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in sweep.parameters()}
    assert len(grouped) == len(list(sweep.parameters()))
    assert all(isinstance(p, nn.Parameter) for p in grouped)


def test_two_maps_are_needed_in_training() -> None:
    sweep = make([HeadSpec(0.1, 0)])
    maps, labels = batch(0, torch.float64)
    for features, count in ((maps[0], 1), (maps[:1], 1), ([*maps, maps[0]], 3)):
        with pytest.raises(ValueError, match=f"two maps.* got {count}"):
            sweep.accumulate_gradients(features, labels)
