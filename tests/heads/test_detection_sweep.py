import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from vicregl_bench.heads.detection_sweep import Detected, DetectionSweep
from vicregl_bench.heads.region_proposals import DetectionOptions, Frame, Truth
from vicregl_bench.heads.streams import seeded
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.detection.metric import Detections, GroundTruth, score

D1, D2, C = 10, 14, 4
OPTIONS = DetectionOptions(
    anchor_scales=(2.0, 4.0),
    anchor_samples=40,
    train_pre_nms=100,
    train_post_nms=40,
    test_pre_nms=200,
    test_post_nms=60,
    region_samples=24,
    score_threshold=0.01,
    max_detections=20,
)
SIZES = ((96, 128), (75, 110))  # of the second picture, a part is padding


def batch(
    seed: int, dtype: torch.dtype, ignored: int = 1, objects: int = 3
) -> tuple[list[Tensor], list[Truth]]:
    generator = torch.Generator().manual_seed(seed)
    maps = [
        torch.randn(2, channels, 6, 8, generator=generator, dtype=torch.float64).to(dtype)
        for channels in (D1, D2)
    ]
    truths = []
    for size in SIZES:
        corners = torch.rand(objects + ignored, 2, generator=generator) * 40
        sides = 20 + torch.rand(objects + ignored, 2, generator=generator) * 30
        boxes = torch.cat([corners, corners + sides], dim=1)
        labels = torch.randint(0, C, (objects,), generator=generator)
        truths.append(Truth(Frame(size, (0.5, 0.8)), boxes[:objects], labels, boxes[objects:]))
    return maps, truths


def make(
    heads: Sequence[HeadSpec], dtype: torch.dtype = torch.float64, run_seed: int = 0
) -> DetectionSweep:
    return DetectionSweep(D1, D2, C, heads, options=OPTIONS, run_seed=run_seed, dtype=dtype)


def sgd(groups: list[dict[str, object]]) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9, weight_decay=1e-4)


def train(
    sweep: DetectionSweep,
    steps: range,
    dtype: torch.dtype,
    optimizer: torch.optim.SGD | None = None,
) -> Tensor:
    """Losses (steps, K)."""
    optimizer = optimizer or sgd(sweep.param_groups())
    losses = []
    for step in steps:
        losses.append(sweep.accumulate_gradients(*batch(step, dtype)))
        optimizer.step()
    return torch.stack(losses)


class Drawing(RandomSampler):  # type: ignore[misc]
    """mmdet's sampler, seeded anew for every picture."""

    def __init__(self, entropies: Iterator[tuple[int, ...]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entropies = entropies

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        with seeded(torch.device("cpu"), *next(self.entropies)):
            return super().sample(*args, **kwargs)


def assigner(positive: float, negative: float, low: bool) -> dict[str, Any]:
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": negative,
        "match_low_quality": low,
        "ignore_iof_thr": 0.5,
    }


def _built(config: dict[str, Any]) -> Any:
    """A module of mmdet's, whatever scope an earlier test has left."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(config)


class Peer:
    """mmdet's RPN head without its 3x3 convolution, RoIAlign and box head, through autograd."""

    def __init__(self, sweep: DetectionSweep, k: int) -> None:
        self.linear = copy.deepcopy(sweep.linears[k])
        self.seed = sweep.heads[k].seed
        nms = {"type": "nms", "iou_threshold": 0.7}
        coder = {"type": "DeltaXYWHBBoxCoder"}
        l1 = {"type": "L1Loss"}
        proposals = {"nms_pre": 100, "max_per_img": 40, "nms": nms, "min_bbox_size": 0}
        test_proposals = {"nms_pre": 200, "max_per_img": 60, "nms": nms, "min_bbox_size": 0}
        sampler = {"type": "RandomSampler", "num": 1, "pos_fraction": 0.5}
        train = {"pos_weight": -1, "sampler": sampler}
        rpn = ConfigDict(
            {
                "type": "RPNHead",
                "in_channels": D1,
                "anchor_generator": {
                    "type": "AnchorGenerator",
                    "scales": [2, 4],
                    "ratios": [0.5, 1.0, 2.0],
                    "strides": [16],
                },
                "bbox_coder": {**coder, "target_stds": [1.0] * 4},
                "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
                "loss_bbox": l1,
                "train_cfg": {**train, "assigner": assigner(0.7, 0.3, True), "allowed_border": -1},
                "test_cfg": test_proposals,
            }
        )
        self.rpn, self.proposals = _built(rpn), ConfigDict(proposals)
        # mmdet trains on float32 anchors whatever the maps' dtype: other overlaps are equal then
        dtype = next(sweep.parameters()).dtype
        generator, encode = self.rpn.prior_generator, self.rpn.bbox_coder.encode
        generator.grid_priors = partial(generator.grid_priors, dtype=dtype)
        self.rpn.bbox_coder.encode = lambda *boxes: encode(*boxes).to(dtype)
        roi = ConfigDict(
            {
                "type": "StandardRoIHead",
                "bbox_roi_extractor": {
                    "type": "SingleRoIExtractor",
                    "roi_layer": {"type": "RoIAlign", "output_size": 7, "use_torchvision": True},
                    "out_channels": D2,
                    "featmap_strides": [16],
                },
                "bbox_head": {
                    "type": "BBoxHead",
                    "with_avg_pool": True,
                    "in_channels": D2,
                    "num_classes": C,
                    "bbox_coder": {**coder, "target_stds": [0.1, 0.1, 0.2, 0.2]},
                    "loss_bbox": l1,
                },
                "train_cfg": {**train, "assigner": assigner(0.5, 0.5, False)},
                "test_cfg": {
                    "score_thr": 0.01,
                    "nms": {"type": "nms", "iou_threshold": 0.5},
                    "max_per_img": 20,
                },
            }
        )
        self.roi = _built(roi)
        self.roi.bbox_head.fc_cls = self.linear.classes
        self.roi.bbox_head.fc_reg = self.linear.region_deltas

    def outputs(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return [self.linear.objectness(maps[0])], [self.linear.anchor_deltas(maps[0])]

    @staticmethod
    def samples(truths: list[Truth], dtype: torch.dtype) -> list[DetDataSample]:
        samples = []
        for truth in truths:
            size, scale = truth.frame.size, truth.frame.scale
            meta = {"img_shape": size, "pad_shape": size, "scale_factor": scale}
            sample = DetDataSample(metainfo=meta)
            sample.gt_instances = InstanceData(bboxes=truth.boxes.to(dtype), labels=truth.labels)
            sample.ignored_instances = InstanceData(bboxes=truth.ignored.to(dtype))
            samples.append(sample)
        return samples

    def loss(self, maps: list[Tensor], truths: list[Truth], iteration: int) -> Tensor:
        for kind, (owner, name, args) in enumerate(
            (
                (self.rpn, "sampler", (40, 0.5, -1, False)),
                (self.roi, "bbox_sampler", (24, 0.25, -1, True)),
            )
        ):
            entropies = iter([(0, self.seed, 3, iteration, kind, b) for b in range(len(truths))])
            setattr(owner, name, Drawing(entropies, *args))
        samples = self.samples(truths, maps[0].dtype)
        metas = [one.metainfo for one in samples]
        scores, deltas = self.outputs(maps)
        objects = [
            InstanceData(bboxes=one.gt_instances.bboxes, labels=0 * one.gt_instances.labels)
            for one in samples
        ]
        ignored = [one.ignored_instances for one in samples]
        losses = self.rpn.loss_by_feat(scores, deltas, objects, metas, ignored)
        detached = [[one.detach() for one in outputs] for outputs in (scores, deltas)]
        proposals = self.rpn.predict_by_feat(*detached, batch_img_metas=metas, cfg=self.proposals)
        regions = self.roi.loss((maps[1],), proposals, samples)
        total: Tensor = sum(losses["loss_rpn_cls"]) + sum(losses["loss_rpn_bbox"])
        return total + regions["loss_cls"] + regions["loss_bbox"]

    @torch.no_grad()
    def predict(self, maps: list[Tensor], truths: list[Truth]) -> list[Any]:
        samples = self.samples(truths, maps[0].dtype)
        metas = [one.metainfo for one in samples]
        proposals = self.rpn.predict_by_feat(*self.outputs(maps), batch_img_metas=metas)
        found: list[Any] = self.roi.predict((maps[1],), proposals, samples, rescale=True)
        return found


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # mmdet's losses have float32 in them whatever the maps' dtype: epsilons of divisors, casts
    [(torch.float64, 5e-7), (torch.float32, 1e-5)],
)
def test_training_equals_that_of_mmdets_heads(dtype: torch.dtype, tolerance: float) -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(0.05, 3)]
    sweep = make(heads, dtype)
    start = [p.detach().clone() for p in sweep.parameters()]
    peers = [Peer(sweep, k) for k in range(len(heads))]
    ours = train(sweep, range(5), dtype)
    for p, begun in zip(sweep.parameters(), start, strict=True):
        assert (p - begun).norm() > 1e-3 * p.norm()  # every layer did train
    for k, (head, peer) in enumerate(zip(heads, peers, strict=True)):
        optimizer = sgd([{"params": list(peer.linear.parameters()), "lr": head.lr}])
        for step in range(5):
            optimizer.zero_grad()
            loss = peer.loss(*batch(step, dtype), step)
            loss.backward()
            optimizer.step()
            torch.testing.assert_close(ours[step, k], loss.detach(), rtol=tolerance, atol=0)
        for one, other in zip(sweep.head_parameters(k), peer.linear.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_detections_equal_those_of_mmdets_heads() -> None:
    sweep = make([HeadSpec(0.1, 0), HeadSpec(0.05, 3)])
    train(sweep, range(5), torch.float64)
    maps, truths = batch(9, torch.float64)
    ours = sweep.predict(maps, [truth.frame for truth in truths])
    for k in range(2):
        for mine, theirs in zip(ours[k], Peer(sweep, k).predict(maps, truths), strict=True):
            assert len(mine.boxes) == 20
            torch.testing.assert_close(mine.boxes, theirs.bboxes, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(mine.scores, theirs.scores, rtol=1e-10, atol=1e-12)
            assert torch.equal(mine.labels, theirs.labels)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # equal up to the order of summation: one stacked product against single ones
    [(torch.float64, 1e-10), (torch.float32, 1e-5)],
)
def test_every_head_ends_where_its_own_run_would(dtype: torch.dtype, tolerance: float) -> None:
    heads = [HeadSpec(lr, seed) for lr in (0.1, 0.03) for seed in range(2)]
    together = make(heads, dtype)
    losses = train(together, range(8), dtype)
    for k, head in enumerate(heads):
        alone = make([head], dtype)
        own_losses = train(alone, range(8), dtype)[:, 0]
        torch.testing.assert_close(losses[:, k], own_losses, rtol=tolerance, atol=0)
        for one, own in zip(together.head_parameters(k), alone.parameters(), strict=True):
            assert (one - own).norm() <= tolerance * own.norm()
    assert losses[:, 0].ne(losses[:, 1]).all()


def test_a_run_resumed_from_its_state_is_the_whole_run() -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(0.03, 1), HeadSpec(1e300, 0)]
    whole = make(heads)
    optimizer = sgd(whole.param_groups())
    train(whole, range(3), torch.float64, optimizer)
    state = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    expected = train(whole, range(3, 6), torch.float64, optimizer)

    torch.manual_seed(77)  # no random state but what the sweep makes
    resumed = make(heads)
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


@pytest.mark.parametrize(("dtype", "rate"), [(torch.float64, 1e300), (torch.float32, 1e30)])
def test_a_diverged_head_is_marked_and_the_others_go_on(dtype: torch.dtype, rate: float) -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(rate, 0), HeadSpec(0.03, 1)]
    sweep = make(heads, dtype)
    optimizer = sgd(sweep.param_groups())
    losses = train(sweep, range(6), dtype, optimizer)
    at = int(sweep.diverged_at[1])
    assert sweep.diverged_at.tolist() == [-1, at, -1]
    assert 0 < at < 5
    assert losses[:at, 1].isfinite().all() and losses[at + 1 :, 1].isnan().all()
    assert all(p.grad is None for p in sweep.head_parameters(1))
    assert all(p.grad is not None for p in sweep.head_parameters(2))
    for k in (0, 2):
        alone = make([heads[k]], dtype)
        train(alone, range(6), dtype)
        for one, own in zip(sweep.head_parameters(k), alone.parameters(), strict=True):
            assert (one - own).norm() <= 1e-5 * own.norm()
    maps, truths = batch(0, dtype)
    found = sweep.predict(maps, [truth.frame for truth in truths])
    assert [len(one.boxes) for one in found[1]] == [0, 0]
    assert all(len(one.boxes) for one in found[0] + found[2])
    sweep.diverged_at.fill_(0)
    assert sweep.accumulate_gradients(maps, truths).isnan().all()
    assert int(sweep.iteration) == 6


def test_a_head_broken_by_its_last_step_is_marked_when_it_predicts() -> None:
    sweep = make([HeadSpec(0.1, 0), HeadSpec(0.1, 1)])
    train(sweep, range(2), torch.float64)
    sweep.head_parameters(1)[4].data.fill_(float("nan"))  # the classes' weights
    maps, truths = batch(0, torch.float64)
    found = sweep.predict(maps, [truth.frame for truth in truths])
    assert sweep.diverged_at.tolist() == [-1, 1]
    assert len(found[0][0].boxes) and not len(found[1][0].boxes)


@pytest.mark.parametrize("objects", [0, 1])
def test_pictures_without_objects_or_ignored_ones_will_do(objects: int) -> None:
    sweep = make([HeadSpec(0.1, 0)])
    maps, truths = batch(0, torch.float64, ignored=0, objects=objects)
    truths[0] = replace(truths[0], boxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    assert torch.isfinite(sweep.accumulate_gradients(maps, truths)).all()
    assert all(torch.isfinite(p.grad).all() for p in sweep.parameters() if p.grad is not None)
    deltas = sweep.head_parameters(0)[6].grad
    assert deltas is not None and bool(deltas.any()) == bool(objects)


def test_every_trainable_part_is_linear() -> None:
    sweep = make([HeadSpec(0.1, 0), HeadSpec(0.03, 1)])
    own = {
        name: module
        for name, module in sweep.named_modules()
        if list(module.parameters(recurse=False))
    }
    assert list(own) == [
        f"linears.{k}.{layer}"
        for k in range(2)
        for layer in ("objectness", "anchor_deltas", "classes", "region_deltas")
    ]
    for module in own.values():
        assert type(module) in (nn.Conv2d, nn.Linear)
        if isinstance(module, nn.Conv2d):
            assert module.kernel_size == (1, 1)
    maps, truths = batch(0, torch.float64)
    before = [one.clone() for one in maps]
    sweep.accumulate_gradients([one.requires_grad_() for one in maps], truths)
    for one, kept in zip(maps, before, strict=True):  # the trunk's maps are left alone
        assert one.grad is None and torch.equal(one, kept)


def test_parameters_are_grouped_by_head() -> None:
    sweep = make([HeadSpec(0.1, 0), HeadSpec(0.03, 0)])
    groups = sweep.param_groups()
    assert [group["lr"] for group in groups] == [0.1, 0.03]
    grouped = [p for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    assert [id(p) for p in grouped] == [id(p) for p in sweep.parameters()]


def test_initialisation_follows_from_seeds_alone() -> None:
    state = torch.get_rng_state()
    many = make([HeadSpec(lr, s) for lr in (0.1, 0.01) for s in range(2)])
    assert torch.equal(state, torch.get_rng_state())
    for one, same in zip(many.head_parameters(1), many.head_parameters(3), strict=True):
        assert torch.equal(one, same)
    for one, same in zip(
        many.head_parameters(1), make([HeadSpec(9.0, 1)]).parameters(), strict=True
    ):
        assert torch.equal(one, same)
    weight = many.head_parameters(1)[0]
    assert not torch.equal(many.head_parameters(0)[0], weight)
    assert not torch.equal(make([HeadSpec(9.0, 1)], run_seed=1).head_parameters(0)[0], weight)
    wide = DetectionSweep(1024, 2048, 20, [HeadSpec(0.1, 0)]).head_parameters(0)
    assert [tuple(p.shape[:2]) for p in wide[::2]] == [
        (15, 1024), (60, 1024), (21, 2048), (80, 2048)
    ]  # fmt: skip
    for p, std in zip(wide[::2], (0.01, 0.01, 0.01, 0.001), strict=True):
        assert float(p.detach().std()) == pytest.approx(std, rel=0.03)
    assert not any(p.detach().any() for p in wide[1::2])


def test_maps_made_in_inference_mode_stale_gradients_and_the_mode_do_not_matter() -> None:
    heads = [HeadSpec(0.1, 0), HeadSpec(0.1, 1)]
    with torch.inference_mode():
        made, _ = batch(0, torch.float32)
    plain, truths = batch(0, torch.float32)
    sweep, peer = make(heads).eval(), make(heads).train()
    for p in sweep.parameters():
        p.grad = torch.ones_like(p)
    state = torch.get_rng_state()
    assert torch.equal(
        sweep.accumulate_gradients(made, truths), peer.accumulate_gradients(plain, truths)
    )
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(sweep.parameters(), peer.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad)
    sgd(sweep.param_groups()).step()
    frames = [truth.frame for truth in truths]
    assert len(sweep.predict(made, frames)[0][0].boxes)


def test_maps_and_pictures_must_fit() -> None:
    sweep = make([HeadSpec(0.1, 0)])
    maps, truths = batch(0, torch.float64)
    for given, objects in ((maps[:1], truths), (maps, truths[:1])):
        with pytest.raises(ValueError, match="a proposal and a region map of"):
            sweep.accumulate_gradients(given, objects)


def toy(seed: int, pictures: int) -> tuple[list[Tensor], list[Truth]]:
    """Maps that say of objects where they are, their size and class, in a linear way.

    At the pixel nearest to an object's middle the proposal map holds one and the object's deltas
    from a square of 48 pixels there; the region map holds one in the class's channel, everywhere in
    the object.
    """
    generator = torch.Generator().manual_seed(seed)
    proposal, region = torch.zeros(pictures, 5, 12, 12), torch.zeros(pictures, 3, 12, 12)
    truths = []
    for b in range(pictures):
        boxes, labels = [], torch.randint(0, 3, (2,), generator=generator)
        for i, label in enumerate(labels):  # one in the upper half, one in the lower
            w, h, x, y = torch.rand(4, generator=generator).tolist()
            w, h = 40 + 20 * w, 40 + 20 * h
            x, y = w / 2 + x * (192 - w), 96 * i + h / 2 + y * (96 - h)
            boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            column, row = min(round(x / 16), 11), min(round(y / 16), 11)
            deltas = [(x - 16 * column) / 48, (y - 16 * row) / 48, np.log(w / 48), np.log(h / 48)]
            proposal[b, :, row, column] = torch.tensor([1.0, *deltas])
            middles = 16 * torch.arange(12) + 8
            inside_y = (middles > y - h / 2) & (middles < y + h / 2)
            inside_x = (middles > x - w / 2) & (middles < x + w / 2)
            region[b, label] += inside_y[:, None] & inside_x
        truths.append(Truth(Frame((192, 192)), torch.tensor(boxes), labels, torch.zeros(0, 4)))
    return [proposal, region], truths


def average_precision(found: list[Detected], truths: list[Truth]) -> float:
    scores = score(
        [
            GroundTruth(
                truth.boxes.double().numpy(),
                truth.labels.numpy(),
                np.zeros(len(truth.labels), bool),
            )
            for truth in truths
        ],
        [
            Detections(one.boxes.double().numpy(), one.scores.double().numpy(), one.labels.numpy())
            for one in found
        ],
        ["a", "b", "c"],
        convention="coco",
    )
    return scores.main.ap50


def test_objects_that_the_maps_show_are_found() -> None:
    options = DetectionOptions(
        anchor_scales=(3.0,),
        anchor_ratios=(1.0,),
        anchor_samples=64,
        train_pre_nms=60,
        train_post_nms=30,
        test_pre_nms=100,
        test_post_nms=30,
        region_samples=32,
    )
    heads = [HeadSpec(0.1, 0), HeadSpec(0.0, 0)]
    sweep = DetectionSweep(5, 3, 3, heads, options=options)
    optimizer = torch.optim.SGD(sweep.param_groups(), lr=1.0, momentum=0.9)
    first = sweep.accumulate_gradients(*toy(0, 3))
    for step in range(80):
        losses = sweep.accumulate_gradients(*toy(step, 3))
        optimizer.step()
    assert losses[0] < 0.5 * first[0]
    maps, truths = toy(1000, 15)
    learnt, untrained = sweep.predict(maps, [truth.frame for truth in truths])
    assert average_precision(learnt, truths) > 80
    assert average_precision(untrained, truths) < 40  # of few anchors, some fit
