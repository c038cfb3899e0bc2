"""K linear detection heads trained at once on one pass of a frozen backbone.

Source: VICRegL, table 9 ("our linear frozen benchmark, that we adapt to produce bounding boxes"),
which says no more; the definition is ours, task `voc_det_linear` v1. Of a head, every trainable
part is linear: 1x1 convolutions give objectness and box deltas of the anchors on the proposal map;
a region is the mean of its RoIAlign on the region map, and two linear layers give its classes and,
class-specific as in C4, its box deltas. Initialisation and losses are Faster R-CNN C4's
(mmdetection, detectron2): binary cross-entropy over sampled anchors, cross-entropy over sampled
regions, L1 of the positives' deltas, each divided by the number of samples in the batch.

Every head has its own proposals. What they share: the maps, the anchors and their assignment, and
of equal seeds the sampled anchors.

A region's vector is a linear functional of the map (`roi_average`), R x hw times hw x D, and what
reads it is linear, so the order of the products is free. With R regions and an output width O,
forward and backward of one head and picture take 4 hw O (D + R) operations if the map is projected
first and 2 R D (hw + 2 O) if regions are pooled first. For hw = 600, D = 2048, R = 512, C = 20:

- class scores (O = 21): 0.13 against 1.3 GFLOP, so the map is projected, for all heads at once;
- deltas (O = 80), of which training needs the positives' alone (at most 128, often 30): 0.49
  against 0.09 to 0.36, so the positives are pooled. In test all regions count: projected.

Gradients of the layers are these products transposed; only the losses, functions of the layers'
outputs, go through autograd. So maps made in inference mode will do.

All else is small: a picture's samples of one head are a few thousand numbers. So of all heads
together, each in one call a picture, come decoding and assignment (`region_proposals`), losses and
their gradients, RoIAlign's weights of rows and columns, and the pooling of positives; in test only
the boxes of classes above the threshold are decoded. What stays by head: suppression, sampling and
the products with layers of its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmcv.ops import batched_nms
from torch import Tensor, nn

from vicregl_bench.heads.region_proposals import (
    REGION_CODER,
    AnchorSamples,
    DetectionOptions,
    Frame,
    ProposalParts,
    RegionSamples,
    Truth,
)
from vicregl_bench.heads.roi_average import roi_average_matrix, roi_average_weights
from vicregl_bench.heads.streams import INITIALISATION, SAMPLING, seeded
from vicregl_bench.heads.sweep import Heads, HeadSpec

_ANCHORS, _REGIONS = 0, 1  # which of the two samplings


@dataclass(frozen=True)
class Detected:
    """What one head found in a picture, best first.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2 in pixels of the original picture.
        scores: (n,) probabilities.
        labels: (n,) in [0, C).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class LinearDetectionHead(nn.Module):
    """The four linear layers of one head.

    Args:
        proposal_channels: D1, of the proposal map.
        region_channels: D2, of the region map.
        anchors: A, at a pixel of the map.
        num_classes: C.
    """

    def __init__(
        self, proposal_channels: int, region_channels: int, anchors: int, num_classes: int
    ) -> None:
        super().__init__()
        self.objectness = nn.Conv2d(proposal_channels, anchors, 1)
        self.anchor_deltas = nn.Conv2d(proposal_channels, 4 * anchors, 1)
        self.classes = nn.Linear(region_channels, num_classes + 1)
        self.region_deltas = nn.Linear(region_channels, 4 * num_classes)
        for layer, std in (
            (self.objectness, 0.01),
            (self.anchor_deltas, 0.01),
            (self.classes, 0.01),
            (self.region_deltas, 0.001),
        ):
            nn.init.normal_(layer.weight, 0.0, std)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


@dataclass(frozen=True)
class _Stack:
    """One layer of several heads: weight (K * O, D), bias (K, O)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layers: Iterable[nn.Module]) -> "_Stack":
        weights, biases = zip(*((one.weight, one.bias) for one in layers), strict=True)
        return cls(torch.cat([one.flatten(1) for one in weights]), torch.stack(list(biases)))

    def by_head(self) -> Tensor:
        """Weight (K, O, D)."""
        return self.weight.view(*self.bias.shape, -1)

    def project(self, pixels: Tensor) -> Tensor:
        """(P, K, O) outputs without bias of pixels (P, D)."""
        return (pixels @ self.weight.T).view(len(pixels), *self.bias.shape)


@dataclass(frozen=True)
class _Stacks:
    """The four layers of several heads."""

    objectness: _Stack
    anchor_deltas: _Stack
    classes: _Stack
    region_deltas: _Stack

    @classmethod
    def of(cls, linears: Sequence[LinearDetectionHead]) -> "_Stacks":
        return cls(
            _Stack.of(one.objectness for one in linears),
            _Stack.of(one.anchor_deltas for one in linears),
            _Stack.of(one.classes for one in linears),
            _Stack.of(one.region_deltas for one in linears),
        )

    def layers(self) -> tuple[_Stack, ...]:
        """In the order of a head's parameters."""
        return (self.objectness, self.anchor_deltas, self.classes, self.region_deltas)

    def anchors(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (K, h * w * A) and deltas (K, h * w * A, 4) of a picture's anchors."""
        heads = len(self.objectness.bias)
        scores = (self.objectness.project(pixels) + self.objectness.bias).transpose(0, 1)
        deltas = (self.anchor_deltas.project(pixels) + self.anchor_deltas.bias).transpose(0, 1)
        return scores.reshape(heads, -1), deltas.reshape(heads, -1, 4)


@dataclass(frozen=True)
class _Regions:
    """Samples of one head, and what `roi_average_weights` makes of their boxes."""

    samples: RegionSamples
    rows: Tensor
    columns: Tensor


class _Gradient(_Stack):
    """Gradients of one layer of several heads, summed over pictures."""

    def __init__(self, stack: _Stack) -> None:
        super().__init__(torch.zeros_like(stack.weight), torch.zeros_like(stack.bias))

    def add(self, outputs: Tensor, pixels: Tensor) -> None:
        """Add what gradients (P, K, O) by the outputs of `_Stack.project` give the weights."""
        self.weight.addmm_(outputs.flatten(1).T, pixels)

    def divide(self, divisors: Tensor) -> None:
        """Divide each head's by its own of the divisors (K,)."""
        self.by_head().div_(divisors[:, None, None])
        self.bias.div_(divisors[:, None])


class _Training:
    """What the heads still alive give in one iteration, summed over its pictures.

    Args:
        linears: the heads.

    Attributes:
        losses: (heads, 2) sums, of anchors and of regions.
        counts: (heads, 2) samples.
    """

    def __init__(self, linears: Sequence[LinearDetectionHead]) -> None:
        self.stacks = _Stacks.of(linears)
        self.objectness, self.anchor_deltas, self.classes, self.region_deltas = (
            _Gradient(one) for one in self.stacks.layers()
        )
        self.losses = self.stacks.classes.bias.new_zeros(len(linears), 2)
        self.counts = torch.zeros_like(self.losses)

    def train_anchors(
        self, scores: Tensor, deltas: Tensor, drawn: Mapping[int, AnchorSamples], pixels: Tensor
    ) -> None:
        """Add loss and gradients of the anchors that each head, by its index, has drawn."""
        if not drawn:
            return
        counts = [(len(one.indices), len(one.deltas)) for one in drawn.values()]
        # where they are among the anchors of all heads
        places = [i * scores.shape[1] + one.indices for i, one in drawn.items()]
        sampled = torch.cat(places)
        positive = torch.cat([one[:count] for one, (_, count) in zip(places, counts, strict=True)])
        wanted = [torch.arange(n, device=scores.device) < count for n, count in counts]
        targets = torch.cat([one.deltas for one in drawn.values()])
        losses, (by_score, by_delta) = _differentiate(
            _anchor_losses,
            scores.flatten()[sampled],
            deltas.flatten(0, 1)[positive],
            torch.cat(wanted).to(scores.dtype),
            targets,
        )
        self._add_losses(0, list(drawn), losses, counts)
        by_scores, by_deltas = scores.new_zeros(scores.shape), deltas.new_zeros(deltas.shape)
        by_scores.view(-1)[sampled] = by_score
        by_deltas.view(-1, 4)[positive] = by_delta
        for gradient, by_output in ((self.objectness, by_scores), (self.anchor_deltas, by_deltas)):
            of_pixels = by_output.view(len(scores), len(pixels), -1).transpose(0, 1).contiguous()
            gradient.add(of_pixels, pixels)
            gradient.bias.add_(of_pixels.sum(dim=0))

    def train_regions(self, drawn: Mapping[int, _Regions], pixels: Tensor) -> None:
        """Add loss and gradients of the regions that each head, by its index, has drawn.

        Args:
            drawn: by head.
            pixels: (h * w, D2) of the region map.
        """
        if not drawn:
            return
        classes, deltas = self.stacks.classes, self.stacks.region_deltas
        samples = [one.samples for one in drawn.values()]
        counts = [(len(one.labels), len(one.deltas)) for one in samples]
        regions, positives = zip(*counts, strict=True)
        weights = [roi_average_matrix(one.rows, one.columns) for one in drawn.values()]
        positive = torch.cat([one[:n] for one, n in zip(weights, positives, strict=True)])
        pooled = torch.split(positive @ pixels, list(positives))
        projected = classes.project(pixels)
        logits = [
            torch.addmm(classes.bias[i], own, projected[:, i])
            for i, own in zip(drawn, weights, strict=True)
        ]
        outputs = [
            torch.addmm(deltas.bias[i], own, deltas.by_head()[i].T)
            for i, own in zip(drawn, pooled, strict=True)
        ]
        losses, by_layers = _differentiate(
            _region_losses,
            torch.cat(logits),
            torch.cat(outputs),
            torch.cat([one.labels for one in samples]),
            torch.cat([one.labels[: len(one.deltas)] for one in samples]),
            torch.cat([one.deltas for one in samples]),
        )
        self._add_losses(1, list(drawn), losses, counts)
        by_logits = torch.split(by_layers[0], list(regions))
        by_outputs = torch.split(by_layers[1], list(positives))
        by_projected = torch.zeros_like(projected)
        for place, i in enumerate(drawn):
            by_projected[:, i] = weights[place].T @ by_logits[place]
            self.classes.bias[i] += by_logits[place].sum(dim=0)
            self.region_deltas.by_head()[i].addmm_(by_outputs[place].T, pooled[place])
            self.region_deltas.bias[i] += by_outputs[place].sum(dim=0)
        self.classes.add(by_projected, pixels)

    def _add_losses(
        self,
        column: int,
        heads: list[int],
        losses: tuple[Tensor, Tensor],
        counts: Sequence[tuple[int, int]],
    ) -> None:
        """Add the losses of all samples and of all positives, `counts` of each head."""
        for one, lengths in zip(losses, zip(*counts, strict=True), strict=True):
            # not index_add_, whose order of summation is not the same in every run on a GPU
            self.losses[heads, column] += torch.stack(
                [own.sum() for own in torch.split(one, list(lengths))]
            )
        self.counts[heads, column] += self.counts.new_tensor([samples for samples, _ in counts])

    def mean_losses(self) -> Tensor:
        """(heads,) losses of anchors and regions together."""
        return (self.losses / self.counts.clamp(min=1)).sum(dim=1)

    def leave(self, linears: Mapping[int, LinearDetectionHead]) -> None:
        """Leave the gradients of some heads, by index, in their parameters; to be called once."""
        for gradient, column in (
            (self.objectness, 0),
            (self.anchor_deltas, 0),
            (self.classes, 1),
            (self.region_deltas, 1),
        ):
            gradient.divide(self.counts[:, column].clamp(min=1))
        for i, linear in linears.items():
            for layer, gradient in (
                (linear.objectness, self.objectness),
                (linear.anchor_deltas, self.anchor_deltas),
                (linear.classes, self.classes),
                (linear.region_deltas, self.region_deltas),
            ):
                assert isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
                layer.weight.grad = gradient.by_head()[i].view(layer.weight.shape)
                layer.bias.grad = gradient.bias[i]


class DetectionSweep(Heads):
    """K linear detection heads over shared maps.

    One training iteration is `accumulate_gradients`, then a step of the optimiser; pictures are
    evaluated by `predict`. Initialisation and sampling follow from (run seed, head seed) and the
    iteration alone, not from K, the learning rate, or what ran before. Neither method depends on
    `train()` and `eval()`.

    Args:
        proposal_channels: D1, channels of the map that proposals are made from.
        region_channels: D2, channels of the map that regions are cut from.
        num_classes: C.
        heads: the K heads.
        options: numbers of anchors, proposals and samples.
        run_seed: seed of the whole run.
        dtype: of parameters and arithmetic, to which maps are converted; float64 for tests.
    """

    def __init__(
        self,
        proposal_channels: int,
        region_channels: int,
        num_classes: int,
        heads: Sequence[HeadSpec],
        *,
        options: DetectionOptions | None = None,
        run_seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(heads, run_seed=run_seed)
        self.num_classes = num_classes
        self.options = options or DetectionOptions()
        self._parts = ProposalParts(self.options, num_classes)
        self.linears = nn.ModuleList()
        for head in self.heads:
            with seeded(torch.device("cpu"), run_seed, head.seed, INITIALISATION):
                linear = LinearDetectionHead(
                    proposal_channels, region_channels, self.options.anchors, num_classes
                )
            self.linears.append(linear.to(dtype))

    def head_parameters(self, k: int) -> list[nn.Parameter]:
        """Weight and bias of objectness, anchor deltas, classes and region deltas of head k.

        Raises:
            IndexError: no head k.
        """
        return list(self.linears[k].parameters())

    @torch.no_grad()
    def accumulate_gradients(self, maps: Sequence[Tensor], truths: Sequence[Truth]) -> Tensor:
        """Forward and backward of one training iteration for all heads.

        Sets `.grad` of every parameter to the gradient of its head's loss; gradients left from
        before are overwritten. A head whose outputs or loss are not finite is marked in
        `diverged_at`, has no gradients and is not computed any more; the others go on. Advances
        `iteration`, unless every head had diverged before.

        Args:
            maps: the proposal map (B, D1, h, w) and the region map (B, D2, h2, w2) of the trunk;
                may have been made in inference mode.
            truths: the B pictures' objects.

        Returns:
            (K,) losses, the four parts summed; not finite for a head that diverges now, NaN for one
            that had before.

        Raises:
            ValueError: as many truths as there are not pictures.
        """
        self.zero_grad(set_to_none=True)
        proposal_map, region_map = self._checked(maps, len(truths))
        losses = proposal_map.new_full((len(self.heads),), float("nan"))
        alive = self._alive()
        if not alive:
            return losses
        training = _Training([self._linear(k) for k in alive])
        anchors = self._parts.anchors(proposal_map)
        going = set(range(len(alive)))
        for b, truth in enumerate(truths):
            truth = truth.to(proposal_map)
            pixels, region_pixels = _pixels(proposal_map[b]), _pixels(region_map[b])
            scores, deltas = training.stacks.anchors(pixels)
            going -= _not_finite(scores, deltas)
            drawn = self._draw_anchors(anchors, proposal_map, truth, b)
            of_heads = {i: drawn[self.heads[alive[i]].seed] for i in sorted(going)}
            training.train_anchors(scores, deltas, of_heads, pixels)
            regions = self._draw_regions(
                {i: alive[i] for i in of_heads}, scores, deltas, anchors, truth, region_map, b
            )
            training.train_regions(regions, region_pixels)
        of_alive = training.mean_losses()
        finite = {}
        for i, k in enumerate(alive):
            losses[k] = of_alive[i] if i in going else float("nan")
            if torch.isfinite(losses[k]):
                finite[i] = self._linear(k)
            else:
                self.diverged_at[k] = self.iteration
        training.leave(finite)
        self.iteration += 1
        return losses

    @torch.no_grad()
    def predict(self, maps: Sequence[Tensor], frames: Sequence[Frame]) -> list[list[Detected]]:
        """Detections of every head.

        A head whose outputs are not finite, because its last step broke it, is marked in
        `diverged_at`; a diverged head finds nothing.

        Args:
            maps: as for `accumulate_gradients`.
            frames: of the B pictures.

        Returns:
            K times B pictures' detections.

        Raises:
            ValueError: as many frames as there are not pictures.
        """
        proposal_map, region_map = self._checked(maps, len(frames))
        found: list[list[Detected]] = [[] for _ in self.heads]
        anchors = self._parts.anchors(proposal_map)
        stacks = _Stacks.of([self._linear(k) for k in range(len(self.heads))])
        classes, region_deltas = stacks.classes, stacks.region_deltas
        for b, frame in enumerate(frames):
            scores, deltas = stacks.anchors(_pixels(proposal_map[b]))
            pixels = _pixels(region_map[b])
            class_map, delta_map = classes.project(pixels), region_deltas.project(pixels)
            broken = _not_finite(*(one.transpose(0, 1) for one in (class_map, delta_map)))
            self._mark(broken | _not_finite(scores, deltas))
            alive = self._alive()
            for k in set(range(len(self.heads))) - set(alive):
                found[k].append(_nothing(anchors))
            if not alive:
                continue
            proposals = self._parts.propose_all(
                scores[alive], deltas[alive], anchors, frame, train=False
            )
            weights = self._region_weights(proposals, region_map)
            for k, boxes, (rows, columns) in zip(alive, proposals, weights, strict=True):
                matrix = roi_average_matrix(rows, columns)
                logits = torch.addmm(classes.bias[k], matrix, class_map[:, k])
                outputs = torch.addmm(region_deltas.bias[k], matrix, delta_map[:, k])
                found[k].append(self._detect(boxes, logits, outputs, frame))
        return found

    def _detect(self, boxes: Tensor, logits: Tensor, deltas: Tensor, frame: Frame) -> Detected:
        """From regions (n, 4), their class logits (n, C + 1) and deltas (n, 4 * C)."""
        scores = logits.softmax(dim=1)[:, :-1]
        regions, labels = (scores > self.options.score_threshold).nonzero(as_tuple=True)
        if not len(regions):
            return _nothing(boxes)
        of_classes = deltas.view(len(boxes), self.num_classes, 4)[regions, labels]
        decoded = REGION_CODER.decode(boxes[regions], of_classes, max_shape=frame.size)
        scale = boxes.new_tensor(frame.scale).repeat(2)
        best, kept = batched_nms(
            decoded / scale,
            scores[regions, labels],
            labels,
            {"type": "nms", "iou_threshold": self.options.nms_iou},
        )
        best, kept = best[: self.options.max_detections], kept[: self.options.max_detections]
        return Detected(best[:, :4], best[:, 4], labels[kept])

    def _draw_anchors(
        self, anchors: Tensor, proposal_map: Tensor, truth: Truth, b: int
    ) -> dict[int, AnchorSamples]:
        """Anchors to train on, by head seed: heads of equal seeds draw the same."""
        size = (proposal_map.shape[-2], proposal_map.shape[-1])
        targets = self._parts.anchor_targets(anchors, size, truth)
        seeds = sorted({head.seed for head in self.heads})
        return {seed: targets.sample(*self._entropy(seed, _ANCHORS, b)) for seed in seeds}

    def _draw_regions(
        self,
        heads: Mapping[int, int],
        scores: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        truth: Truth,
        region_map: Tensor,
        b: int,
    ) -> dict[int, _Regions]:
        """Regions to train on, by the row of a head in scores and deltas; `heads` says whose."""
        if not heads:
            return {}
        rows = list(heads)
        proposals = self._parts.propose_all(
            scores[rows], deltas[rows], anchors, truth.frame, train=True
        )
        entropies = [self._entropy(self.heads[k].seed, _REGIONS, b) for k in heads.values()]
        samples = self._parts.sample_all_regions(proposals, truth, entropies)
        weights = self._region_weights([one.boxes for one in samples], region_map)
        return {
            i: _Regions(own, *sides) for i, own, sides in zip(rows, samples, weights, strict=True)
        }

    def _entropy(self, head_seed: int, what: int, b: int) -> tuple[int, ...]:
        return (self.run_seed, head_seed, SAMPLING, int(self.iteration), what, b)

    def _region_weights(
        self, boxes: Sequence[Tensor], region_map: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Weights (n, h2), (n, w2) of the map's rows and columns for the n boxes of each head."""
        rows, columns = roi_average_weights(
            torch.cat(list(boxes)),
            (region_map.shape[-2], region_map.shape[-1]),
            stride=self.options.region_stride,
            output_size=self.options.roi_size,
            sampling_ratio=self.options.sampling_ratio,
        )
        counts = [len(one) for one in boxes]
        return list(zip(torch.split(rows, counts), torch.split(columns, counts), strict=True))

    def _checked(self, maps: Sequence[Tensor], pictures: int) -> tuple[Tensor, Tensor]:
        """The two maps in the arithmetic's dtype."""
        if len(maps) != 2 or any(len(one) != pictures for one in maps):
            shapes = ", ".join(str(tuple(one.shape)) for one in maps)
            raise ValueError(
                f"a detection head reads a proposal and a region map of {pictures} pictures each; "
                f"got {shapes}"
            )
        dtype = next(self.parameters()).dtype
        return maps[0].to(dtype), maps[1].to(dtype)

    def _linear(self, k: int) -> LinearDetectionHead:
        linear = self.linears[k]
        assert isinstance(linear, LinearDetectionHead)
        return linear


def _pixels(features: Tensor) -> Tensor:
    """(h * w, D) of a map (D, h, w)."""
    return features.flatten(1).T


def _not_finite(*outputs: Tensor) -> set[int]:
    """Indices of the heads of whose outputs (K, ...) one is not finite."""
    broken = [~torch.isfinite(one).flatten(1).all(dim=1) for one in outputs]
    indices: list[int] = torch.stack(broken).any(dim=0).nonzero().flatten().tolist()
    return set(indices)


def _nothing(like: Tensor) -> Detected:
    empty = like.new_zeros(0)
    return Detected(like.new_zeros(0, 4), empty, empty.long())


def _anchor_losses(
    scores: Tensor, deltas: Tensor, wanted: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Of every sampled anchor (n,), and of the deltas (p, 4) of the positives (p,)."""
    objectness = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    return objectness, F.l1_loss(deltas, targets, reduction="none").sum(dim=1)


def _region_losses(
    logits: Tensor, outputs: Tensor, labels: Tensor, positives: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Of every sampled region (n,), and of the positives' outputs (p, 4 * C) at their class."""
    rows = torch.arange(len(positives), device=outputs.device)
    deltas = outputs.view(len(outputs), outputs.shape[1] // 4, 4)[rows, positives]
    classes = F.cross_entropy(logits, labels, reduction="none")
    return classes, F.l1_loss(deltas, targets, reduction="none").sum(dim=1)


def _differentiate(
    losses_of: Callable[..., tuple[Tensor, Tensor]], first: Tensor, second: Tensor, *rest: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
    """Samples' losses, and the gradients of their sum by two outputs of the layers."""
    with torch.enable_grad():
        leaves = [one.detach().requires_grad_() for one in (first, second)]
        samples, positives = losses_of(*leaves, *rest)
        gradients = torch.autograd.grad(samples.sum() + positives.sum(), leaves)
    return (samples.detach(), positives.detach()), gradients
