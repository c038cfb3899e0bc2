"""Two processes with half of a batch each against one process with the whole of it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pretrain import distributed
from pretrain.distributed import (
    AllReduceBatchNorm,
    gather,
    gather_batch,
    mean_over_processes,
    own_rows,
    rank,
    synchronise_batchnorm,
    world_size,
)
from pretrain.losses import TERMS, VICRegLLoss
from pretrain.views import cell_centres

W = 2
CPU = torch.device("cpu")
# preset, pictures in the whole batch, batch normalisation synchronised
CASES: list[tuple[Any, int, bool]] = [
    ("paper", 8, True),
    ("released", 8, True),
    ("paper", 2, True),  # one picture a process
    ("paper", 8, False),
]
NORMS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "vectors": ({}, (6, 3)),
    "sequences": ({"momentum": 0.3}, (6, 3, 5)),
    "cumulative average": ({"momentum": None}, (6, 3, 4, 4)),
    "not affine": ({"affine": False}, (6, 3, 4, 4)),
    "no running statistics": ({"track_running_stats": False}, (6, 3, 4, 4)),
    "one sample a process": ({}, (2, 3)),
}
# float64 keeps 16 digits; another order of summation costs a few, and the gradient of a bias that
# batch normalisation removes is 0 but for rounding
EXACT = {"rtol": 1e-9, "atol": 1e-12}


class Network(nn.Module):
    """Two views (B, 3, 6, 6) to 3 x 3 maps and embeddings, as VICRegL has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.local = self.projector(5)
        self.whole = self.projector(7)

    @staticmethod
    def projector(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(8, 12), nn.BatchNorm1d(12, momentum=None), nn.ReLU(), nn.Linear(12, width)
        )

    def forward(self, views: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        maps, embeddings = [], []
        for view in views:
            features = self.stem(view).flatten(2).transpose(1, 2)  # (B, 9, 8)
            maps.append(self.local(features.flatten(0, 1)).unflatten(0, features.shape[:2]))
            embeddings.append(self.whole(features.mean(dim=1)))
        return maps, embeddings


def network() -> Network:
    torch.manual_seed(0)
    return Network().double()


def pictures(batch: int) -> tuple[list[Tensor], list[Tensor]]:
    """Two views of a batch, and where their cells lie; jitter leaves no ties in distance."""
    generator = torch.Generator().manual_seed(1)
    views, locations = [], []
    for _ in range(2):
        views.append(torch.randn(batch, 3, 6, 6, generator=generator, dtype=torch.float64))
        corners = torch.randint(0, 60, (batch, 2), generator=generator).tolist()
        place = torch.stack([cell_centres(i, j, 90, 80, 3) for i, j in corners])
        noise = torch.rand(place.shape, generator=generator, dtype=torch.float64)
        locations.append(place + 0.01 * noise)
    return views, locations


def train(preset: Any, batch: int, synchronised: bool) -> dict[str, Any]:
    """Values, gradients and buffers after a backward pass over this process's pictures."""
    model: nn.Module = network()
    plain = model
    if world_size() > 1:
        if synchronised:
            plain = synchronise_batchnorm(model, CPU)
        model = DistributedDataParallel(plain)
    views, locations = ([own_rows(x) for x in part] for part in pictures(batch))
    maps, embeddings = model(views)
    terms = VICRegLLoss(alpha=0.5, num_matches=(4, 4), preset=preset)(maps, embeddings, locations)
    terms.total.backward()
    return {
        "values": {name: getattr(terms, name).detach() for name in (*TERMS, "total")},
        "gradients": {name: p.grad for name, p in plain.named_parameters()},
        "buffers": dict(plain.named_buffers()),
    }


def normalise(name: str) -> dict[str, Any]:
    """Two training steps of a batch normalisation and a step of evaluation."""
    options, shape = NORMS[name]
    generator = torch.Generator().manual_seed(2)
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    norm = synchronise_batchnorm(kind(3, **options).double(), CPU)
    outputs, gradients = [], []
    for training in (True, True, False):
        norm.train(training)
        x, direction = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        x, direction = own_rows(100 + 3 * x).requires_grad_(), own_rows(direction)
        y = norm(x)
        if training:  # without running statistics, evaluation is over the own batch, as in torch
            outputs.append(y.detach())
            gradients += torch.autograd.grad((y.sigmoid() * direction).sum(), x)
        elif norm.track_running_stats:
            outputs.append(y.detach())
    return {"outputs": outputs, "gradients": gradients, "state": norm.state_dict()}


def whole_rows() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3 * W, 2, generator=generator, dtype=torch.float64)


def contrast(x: Tensor) -> Tensor:
    """A loss in which every row meets every other."""
    return torch.logsumexp(x @ x.T, dim=1).mean()


def work(process: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=process,
        world_size=W,
        timeout=timedelta(seconds=60),
    )
    rows = own_rows(whole_rows()).clone().requires_grad_()
    gathered = gather(rows)
    loss = contrast(gathered)
    loss.backward()
    results = {
        "sizes": (rank(), world_size()),
        "rows": (rows.detach(), gathered.detach(), gather_batch(rows)),
        "column": gather_batch(rows.detach().T[:, :1]),  # strided in memory
        "gradient": rows.grad,
        "mean": mean_over_processes(rows),
        "norms": {name: normalise(name) for name in NORMS},
        "cases": [train(*case) for case in CASES],
    }
    torch.save(results, folder / f"{process}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every one of W processes found."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        mp.spawn(work, args=(folder,), nprocs=W)
    return [torch.load(folder / f"{process}.pt") for process in range(W)]


@pytest.mark.parametrize("case", [k for k, case in enumerate(CASES) if case[2]])
def test_training_equals_one_process(processes: list[dict[str, Any]], case: int) -> None:
    one = train(*CASES[case])
    assert any(grad.abs().max() > 1e-3 for grad in one["gradients"].values())
    for process in processes:
        for kind, whole in one.items():
            torch.testing.assert_close(process["cases"][case][kind], whole, **EXACT)


def test_without_synchronised_statistics_it_does_not(processes: list[dict[str, Any]]) -> None:
    case = next(k for k, case in enumerate(CASES) if not case[2])
    one = train(*CASES[case])
    for process in processes:
        apart = process["cases"][case]
        assert abs(float(apart["values"]["total"] / one["values"]["total"]) - 1) > 1e-3
        for name in ("stem.0.weight", "local.3.weight", "whole.3.weight"):
            whole = one["gradients"][name]
            assert (apart["gradients"][name] - whole).norm() > 0.01 * whole.norm()


@pytest.mark.parametrize("name", NORMS)
def test_batch_normalisation_equals_one_process(processes: list[dict[str, Any]], name: str) -> None:
    one = normalise(name)
    for kind in ("outputs", "gradients"):
        for step, whole in enumerate(one[kind]):
            parts = [process["norms"][name][kind][step] for process in processes]
            torch.testing.assert_close(torch.cat(parts), whole, **EXACT)
    for process in processes:
        state = process["norms"][name]["state"]
        assert list(state) == list(one["state"])
        torch.testing.assert_close(state, one["state"], **EXACT)


def test_gathering(processes: list[dict[str, Any]]) -> None:
    whole = whole_rows()
    for number, process in enumerate(processes):
        assert process["sizes"] == (number, W)
        own, differentiable, plain = process["rows"]
        assert torch.equal(own, whole[3 * number : 3 * number + 3])
        assert torch.equal(differentiable, whole)
        assert torch.equal(plain, whole) and not plain.requires_grad
        assert torch.equal(process["column"], torch.cat([whole[:3].T[:, :1], whole[3:].T[:, :1]]))
        torch.testing.assert_close(process["mean"], (whole[:3] + whole[3:]) / 2)


def test_the_gradient_of_gathered_rows_is_w_times_its_own(
    processes: list[dict[str, Any]],
) -> None:
    whole = whole_rows().requires_grad_()
    (gradient,) = torch.autograd.grad(contrast(whole), whole)
    found = torch.cat([process["gradient"] for process in processes])
    torch.testing.assert_close(found, W * gradient, **EXACT)


def test_one_process_is_left_alone() -> None:
    assert (world_size(), rank()) == (1, 0)
    x = torch.ones(4, 3, requires_grad=True)
    assert gather(x) is x and gather_batch(x) is x and own_rows(x) is x
    assert torch.equal(mean_over_processes(x), x)
    model = network()
    modules = list(model.modules())
    assert synchronise_batchnorm(model, CPU) is model
    assert all(a is b for a, b in zip(modules, model.modules(), strict=True))


def test_conversion_keeps_parameters_and_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: W)
    model = network()
    model.stem.eval()
    before = dict(model.named_parameters()) | dict(model.named_buffers())
    names = list(model.state_dict())
    synchronise_batchnorm(model, CPU)
    assert list(model.state_dict()) == names
    after = dict(model.named_parameters()) | dict(model.named_buffers())
    assert all(after[name] is tensor for name, tensor in before.items())
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert [type(norm) for norm in norms] == [AllReduceBatchNorm] * 3
    assert [norm.training for norm in norms] == [False, True, True]
    assert [norm.momentum for norm in norms] == [0.1, None, None]
    on_cuda = synchronise_batchnorm(network(), torch.device("cuda"))
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in on_cuda.modules()) == 3


def test_impossible_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: W)
    with pytest.raises(ValueError, match="5 rows are no batch gathered from 2 processes"):
        own_rows(torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"input has shape \(3,\)"):
        AllReduceBatchNorm(3)(torch.ones(3))
