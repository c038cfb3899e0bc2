"""One training step: precision of the criterion, what is built, and what a step changes."""

import copy
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from pretrain.losses import TERMS, VICRegLLoss
from pretrain.model import JointEmbedding
from pretrain.recipe import Recipe
from pretrain.trainee import DivergedError, Trainee, build_criterion, build_network, step_of
from tests.pretrain.conftest import small_recipe

B, SIDE = 4, 64
RATE = 0.5


class Spy(nn.Module):
    """A criterion that notes what it was called with, and under what autocast."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion
        self.autocast: list[bool] = []
        self.inputs: list[tuple[list[Tensor], list[Tensor], list[Tensor]]] = []

    def forward(self, *inputs: list[Tensor]) -> Any:
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        maps, embeddings, places = ([tensor.detach().clone() for tensor in x] for x in inputs)
        self.inputs.append((maps, embeddings, places))
        return self.criterion(*inputs)


def make(recipe: Recipe | None = None) -> Trainee:
    torch.manual_seed(0)
    return Trainee(recipe or small_recipe(), "cpu")


def batch(small: int = 0, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def pixels(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    crops = torch.randint(0, 40, (2 + small, B, 5), generator=generator).float()
    crops[..., 2:4] += 30.0
    crops[..., 4] %= 2
    return {
        "large": pixels(2, B, 3, SIDE, SIDE),
        "small": pixels(small, B, 3, 40, 40) if small else None,
        "crops": crops,
        "unreadable": ["a/1.png"],
    }


def wrapper(trainee: Trainee, **options: Any) -> OptimWrapper:
    return OptimWrapper(torch.optim.SGD(trainee.parameters(), lr=RATE), **options)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["vicregl", "simclr"])
def test_the_criterion_is_in_full_precision_whatever_surrounds_it(
    name: str, precision: str
) -> None:
    trainee = make(small_recipe(criterion__name=name, run__precision=precision))
    trainee.criterion = spy = Spy(trainee.criterion)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = trainee(**batch())
        assert torch.is_autocast_enabled("cpu")
        half = spy.criterion(*spy.inputs[0])
    assert spy.autocast == [False]
    maps, embeddings, places = spy.inputs[0]
    assert [x.dtype for x in (*maps, *embeddings)] == [torch.float32] * 4
    assert [x.dtype for x in places] == [torch.float64] * 2
    alone = spy.criterion(maps, embeddings, places)
    assert torch.equal(terms["loss"], alone.total)
    for term in TERMS:
        assert torch.equal(terms[term], getattr(alone, term)), term
    # under the outer autocast the same call gives other numbers: the comparison can fail
    assert not torch.equal(half.total, alone.total)
    assert terms["loss"].dtype == torch.float32


def test_full_precision_is_not_lowered_from_outside() -> None:
    trainee = make()
    plain = trainee(**batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        surrounded = trainee(**batch())
    for name, value in plain.items():
        assert torch.equal(value, surrounded[name]), name


def test_bf16_lowers_the_features_alone() -> None:
    full, half = make(), make(small_recipe(run__precision="bf16"))
    half.criterion = spy = Spy(half.criterion)
    exact, rough = full(**batch())["loss"].detach(), half(**batch())["loss"].detach()
    assert spy.autocast == [False]
    embedding = spy.inputs[0][1][0]
    assert torch.equal(embedding, embedding.bfloat16().float())
    # bfloat16 keeps eight bits; a dozen layers add up to a few percent
    assert float(rough) == pytest.approx(float(exact), rel=0.05)
    assert float(rough) != float(exact)


def test_gradients_through_the_inner_autocast_are_float32() -> None:
    trainee = make(small_recipe(run__precision="bf16"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trainee(**batch())["loss"].backward()
    for name, parameter in trainee.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name


def test_the_loss_weighs_the_terms() -> None:
    terms = make()(**batch())
    assert list(terms) == ["loss", *TERMS]
    parts = [float(terms[name]) for name in TERMS]
    expected = 0.75 * sum(parts[:3]) + 0.25 * sum(parts[3:])
    assert float(terms["loss"].detach()) == pytest.approx(expected, rel=1e-6)
    assert all(part > 0 for part in parts)


def test_views_reach_the_criterion_in_order_with_their_places() -> None:
    recipe = small_recipe(views__small_count=2, views__small_size=40)
    trainee = make(recipe)
    trainee.criterion = spy = Spy(trainee.criterion)
    data = batch(small=2)
    trainee(**data)
    maps, embeddings, places = spy.inputs[0]
    assert [tuple(x.shape) for x in maps] == [(B, 4, 16)] * 4  # 64 and 40 px: 2 x 2 cells
    assert [tuple(x.shape) for x in embeddings] == [(B, 32)] * 4
    for crop, place in zip(data["crops"], places, strict=True):
        for n, (top, left, height, width, flip) in enumerate(crop.tolist()):
            first = left + width * (0.75 if flip else 0.25)
            assert place[n, 0, 0].tolist() == pytest.approx([top + height / 4, first])


@pytest.mark.parametrize(
    ("changes", "with_expander", "with_projector"),
    [
        ({}, True, True),
        ({"criterion__alpha": 1}, True, False),
        ({"criterion__alpha": 0}, False, True),
        ({"criterion__alpha": 0, "criterion__matching": []}, True, False),
    ],
    ids=str,
)
def test_heads_without_a_criterion_are_not_built(
    changes: dict[str, Any], with_expander: bool, with_projector: bool
) -> None:
    recipe = small_recipe(**changes)
    network = build_network(recipe)
    assert network.second is None
    assert (network.first.expander is not None) == with_expander
    assert (network.first.projector is not None) == with_projector
    if network.first.expander is not None:
        linear = [m for m in network.first.expander if isinstance(m, nn.Linear)]
        assert [(m.in_features, m.out_features) for m in linear] == [(512, 32), (32, 32)]
        assert [m.bias is not None for m in linear] == [True, False]
    trainee = make(recipe)
    terms = trainee(**batch())
    terms["loss"].backward()
    assert all(p.grad is not None for p in trainee.parameters())  # else DDP would wait for it
    parts = [float(terms[name]) for name in TERMS]
    assert (sum(parts[:3]) > 0) == with_expander
    assert (sum(parts[3:]) > 0) == with_projector
    assert trainee.watched is not None
    assert (trainee.watched.embedding is not None) == with_expander


def test_no_matching_is_the_global_criterion_alone() -> None:
    criterion = build_criterion(small_recipe(criterion__alpha=0.25, criterion__matching=[]))
    assert isinstance(criterion, VICRegLLoss) and criterion.alpha == 1.0
    criterion = build_criterion(small_recipe(criterion__alpha=0.25))
    assert isinstance(criterion, VICRegLLoss) and criterion.alpha == 0.25


@pytest.mark.parametrize("second", [None, "resnet34"])
def test_separate_branches_have_weights_of_their_own(second: str | None) -> None:
    changes = {"model__second_backbone": second} if second else {"model__shared": False}
    torch.manual_seed(0)
    network = build_network(small_recipe(**changes))
    assert isinstance(network, JointEmbedding) and network.second is not None
    count = [sum(p.ndim == 4 for p in b.parameters()) for b in (network.first, network.second)]
    assert count == [20, 36 if second else 20]  # convolutions of resnet18 and resnet34
    first = {p.data_ptr() for p in network.first.parameters()}
    assert first.isdisjoint(p.data_ptr() for p in network.second.parameters())
    assert not torch.equal(
        network.first.backbone.conv1.weight, network.second.backbone.conv1.weight
    )
    network.eval()
    view = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        found = network([view, view, view])
        alone = network.first(view), network.second(view)
    for k in range(3):
        assert torch.equal(found[k].embedding, alone[k % 2].embedding)
    assert not torch.equal(found[0].embedding, found[1].embedding)


def test_a_shared_network_is_one_branch() -> None:
    network = build_network(small_recipe())
    network.eval()
    view = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        one, other = network([view, view])
    assert torch.equal(one.embedding, other.embedding)


def test_a_step_is_that_of_the_gradient_and_leaves_nothing_behind() -> None:
    trainee = make()
    reference = copy.deepcopy(trainee)
    data = batch()
    pixels = data["large"].clone()
    expected = reference(**batch())
    expected["loss"].backward()
    terms = trainee.train_step(data, wrapper(trainee))
    assert list(terms) == ["loss", *TERMS]
    for name, value in terms.items():
        assert not value.requires_grad, name
        assert torch.equal(value, expected[name].detach()), name
    theirs = dict(reference.named_parameters())
    for name, parameter in trainee.named_parameters():
        grad = theirs[name].grad
        assert grad is not None
        wanted = theirs[name].detach() - RATE * grad
        torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-6, atol=1e-7)
        assert parameter.grad is None, name
    assert trainee.watched is not None and trainee.watched.embedding is not None
    assert not trainee.watched.representation.requires_grad
    assert not trainee.watched.embedding.requires_grad
    assert trainee.watched.representation.shape == (B, 512)
    assert torch.equal(data["large"], pixels) and data["large"].grad is None


def test_a_step_reaches_no_other_module() -> None:
    trainee, bystander = make(), nn.Linear(3, 3)
    before = snapshot(bystander)
    step_of(trainee, batch(), wrapper(trainee))
    assert all(p.grad is None for p in bystander.parameters())
    assert all(torch.equal(p, before[name]) for name, p in bystander.named_parameters())
    assert list(trainee.criterion.parameters()) == []


def test_accumulated_steps_update_once_with_the_mean_gradient() -> None:
    trainee = make()
    reference = copy.deepcopy(trainee)
    before = snapshot(trainee)
    optim = wrapper(trainee, accumulative_counts=2)
    step_of(trainee, batch(seed=0), optim)
    assert all(torch.equal(p, before[name]) for name, p in trainee.named_parameters())
    step_of(trainee, batch(seed=1), optim)
    for seed in (0, 1):
        (reference(**batch(seed=seed))["loss"] / 2).backward()
    theirs = dict(reference.named_parameters())
    for name, parameter in trainee.named_parameters():
        wanted = before[name] - RATE * theirs[name].grad
        torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-6, atol=1e-7)


def test_a_criterion_that_is_not_finite_stops_before_the_update() -> None:
    trainee = make()
    expander = trainee.network.first.expander
    assert expander is not None
    with torch.no_grad():
        expander[-1].weight[0, 0] = float("nan")
    optim = wrapper(trainee)
    before = snapshot(trainee)
    with pytest.raises(DivergedError) as caught:
        step_of(trainee, batch(), optim)
    parts = dict(part.rsplit(" ", 1) for part in str(caught.value).split(", "))
    assert list(parts) == ["loss", *TERMS]
    assert parts["loss"] == parts["global_invariance"] == "nan"
    assert all(float(parts[name]) > 0 for name in TERMS[3:])  # the local branch is sound
    for name, parameter in trainee.named_parameters():
        assert torch.equal(parameter.nan_to_num(9.0), before[name].nan_to_num(9.0)), name
        assert parameter.grad is None, name


def test_an_infinite_criterion_is_not_finite_either() -> None:
    trainee = make(small_recipe(criterion__alpha=1))
    expander = trainee.network.first.expander
    assert expander is not None
    with torch.no_grad():
        expander[-1].weight.fill_(1e30)  # squares overflow, the embeddings do not
    before = snapshot(trainee)
    with pytest.raises(DivergedError, match="global_invariance inf"):
        step_of(trainee, batch(), wrapper(trainee))
    assert all(torch.equal(p, before[name]) for name, p in trainee.named_parameters())
