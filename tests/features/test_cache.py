import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from PIL import Image
from torch import Tensor, nn

from tests.reporter import Silent
from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.source import BackboneSource
from vicregl_bench.checkpoints import Card
from vicregl_bench.data import Labelled, MultiLabelled
from vicregl_bench.errors import CheckpointError, DataError, RecordError, RunInterruptedError
from vicregl_bench.features import cache as cache_module
from vicregl_bench.features import checksums
from vicregl_bench.features.cache import FeatureCache
from vicregl_bench.features.extractor import CentralCrop, Extractor
from vicregl_bench.features.shards import Features, encode

PICTURES, SHARD, BATCH, WIDTH = 22, 8, 3, 16
CARD = Card(method="test", title="Test", source="made up")


class TinyBackbone(nn.Module):
    """Vectors of both signs and several orders of magnitude."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, WIDTH, 4, 4)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
                parameter.mul_(10.0 ** torch.arange(-8, 8).view(-1, *[1] * (parameter.dim() - 1)))

    def pooled(self, images: Tensor) -> Tensor:
        return self.convolution(images).mean(dim=(2, 3))


class CountingTrunk(FrozenTrunk):
    """Remembers how many pictures it saw."""

    seen = 0

    def pooled(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return super().pooled(images)


@dataclass
class Bench:
    """A cache and what goes into it."""

    cache: FeatureCache
    extractor: Extractor
    pictures: list[Labelled]
    reporter: Silent

    @property
    def trunk(self) -> CountingTrunk:
        trunk = self.extractor.trunk
        assert isinstance(trunk, CountingTrunk)
        return trunk

    def extract(self, **options: Any) -> Features:
        return self.cache.extract(
            self.extractor, self.pictures, reporter=self.reporter, batch_size=BATCH, **options
        )

    def computed(self) -> int:
        """Pictures that an extraction computes now."""
        before = self.trunk.seen
        self.extract()
        return self.trunk.seen - before

    @property
    def home(self) -> Path:
        return self.cache.folder / self.cache.key(self.extractor, self.pictures)


def source_of(card: Card = CARD, weights: str = "0" * 64) -> BackboneSource:
    return BackboneSource("tiny", "resnet18", card, {}, weights)


@pytest.fixture()
def bench(tmp_path: Path) -> Bench:
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(PICTURES):
        path = tmp_path / "data" / f"class{number % 3}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
        pictures.append(Labelled(f"class{number % 3}/{number:02d}", path, number % 3))
    trunk = CountingTrunk(TinyBackbone(), fold=False)
    extractor = Extractor(source_of(), trunk, CentralCrop(18, 16))
    return Bench(FeatureCache(tmp_path / "cache", shard=SHARD), extractor, pictures, Silent())


def direct(bench: Bench) -> Tensor:
    """The features without a cache, in the same batches."""
    crops = [bench.extractor.transform(Image.open(one.image)) for one in bench.pictures]
    extractor = replace(bench.extractor, trunk=FrozenTrunk(TinyBackbone(), fold=False))
    batches = torch.stack(crops).split([3, 3, 2, 3, 3, 2, 3, 3])
    return torch.cat([extractor(batch) for batch in batches])


def test_features_are_those_of_the_trunk_to_half_precision(bench: Bench) -> None:
    exact, features = direct(bench), bench.extract()
    assert features.shape == (PICTURES, WIDTH) and len(features) == PICTURES
    # float16 has 11 bits, and rows are scaled to its whole range
    bound = 2**-11 * exact.abs() + 2**-39 * exact.abs().amax(dim=1, keepdim=True)
    assert bool(((features.tensor() - exact).abs() <= bound).all())
    assert exact.abs().amax() > 65504 and exact.abs().amin() < 2**-24  # beyond what it holds


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 3e4, 1e30])
def test_the_stated_bound_of_rounding(tmp_path: Path, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(64, 300, generator=generator) * scale
    exact *= 10.0 ** -torch.randint(0, 20, exact.shape, generator=generator)
    exact[5] = 0.0
    (tmp_path / "0.npy").write_bytes(encode(exact))
    error = (Features([tmp_path / "0.npy"], 64, 64).tensor() - exact).abs().double()
    largest = exact.abs().amax(dim=1, keepdim=True).double()
    assert bool((error <= 2**-11 * exact.abs().double() + 2**-39 * largest).all())


def test_slices_are_those_of_the_whole(bench: Bench) -> None:
    features = bench.extract()
    whole = features.tensor()
    for rows in (slice(5), slice(3, 20), slice(8, 16), slice(7, 9), slice(-4, None), slice(9, 4)):
        assert torch.equal(features[rows], whole[rows])
    with pytest.raises(ValueError, match="step"):
        features[::2]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_preprocessing_is_that_of_training(bench: Bench, order: str) -> None:
    card = replace(CARD, mean=(1.0, 2.0, 3.0), std=(40.0, 50.0, 60.0), channel_order=order)
    extractor = replace(bench.extractor, source=source_of(card))
    crops = torch.stack([extractor.transform(Image.open(one.image)) for one in bench.pictures])
    config = {"mean": card.mean, "std": card.std, "rgb_to_bgr": order == "bgr"}
    inputs = ImgDataPreprocessor(**config)({"inputs": list(crops)})["inputs"]
    assert torch.equal(extractor(crops), extractor.trunk.pooled(torch.stack(list(inputs))))


def test_a_second_extraction_computes_nothing(bench: Bench) -> None:
    steps: list[tuple[str, int]] = []
    bench.reporter.on_step = lambda name, done: steps.append((name, done))
    first = bench.extract(stage="train features").tensor()
    assert [done for _, done in steps] == [0, 3, 6, 8, 11, 14, 16, 19, 22]
    assert {name for name, _ in steps} == {"train features"}
    assert bench.computed() == 0
    assert steps[-1] == ("features", PICTURES)
    assert torch.equal(bench.extract().tensor(), first) and bench.reporter.warnings == []


def test_loading_in_processes_gives_the_same(bench: Bench) -> None:
    features = bench.extract(workers=1).tensor()
    bench.cache = FeatureCache(bench.cache.folder.with_name("other"), shard=SHARD)
    assert torch.equal(bench.extract().tensor(), features)


def other_weights(bench: Bench) -> None:
    bench.extractor = replace(bench.extractor, source=source_of(weights="1" * 64))


def other_trunk(bench: Bench) -> None:
    trunk = CountingTrunk(TinyBackbone(seed=1), fold=False)
    bench.extractor = replace(bench.extractor, trunk=trunk)


def other_precision(bench: Bench) -> None:
    trunk = CountingTrunk(TinyBackbone(), fold=False, precision="bf16")
    bench.extractor = replace(bench.extractor, trunk=trunk)


def other_arch(bench: Bench) -> None:
    source = replace(bench.extractor.source, arch="resnet34")
    bench.extractor = replace(bench.extractor, source=source)


def other_stride(bench: Bench) -> None:
    bench.extractor = replace(bench.extractor, output_stride=8)


def other_crop(bench: Bench) -> None:
    bench.extractor = replace(bench.extractor, transform=CentralCrop(18, 12))


def other_resize(bench: Bench) -> None:
    bench.extractor = replace(bench.extractor, transform=CentralCrop((18, 18), 16))


def other_card(**changes: Any) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        bench.extractor = replace(bench.extractor, source=source_of(replace(CARD, **changes)))

    return change


def other_order(bench: Bench) -> None:
    bench.pictures[4], bench.pictures[5] = bench.pictures[5], bench.pictures[4]


def fewer(bench: Bench) -> None:
    del bench.pictures[-1]


def other_label(bench: Bench) -> None:
    bench.pictures[2] = replace(bench.pictures[2], label=1)


def other_name(bench: Bench) -> None:
    bench.pictures[2] = replace(bench.pictures[2], name="class0/other")


def other_time(bench: Bench) -> None:
    os.utime(bench.pictures[2].image, ns=(0, 1))


def other_size(bench: Bench) -> None:
    path = bench.pictures[2].image
    state = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def other_content(bench: Bench) -> None:
    """Of the same size and time."""
    path = bench.pictures[2].image
    state, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        other_weights,
        other_trunk,
        other_precision,
        other_arch,
        other_stride,
        other_crop,
        other_resize,
        other_card(mean=(1.0, 2.0, 3.0)),
        other_card(std=(1.0, 2.0, 3.0)),
        other_card(channel_order="bgr"),
        other_card(pooling="cls"),
        other_card(output_norm=True),
        other_order,
        fewer,
        other_label,
        other_name,
        other_time,
        other_size,
        other_content,
    ],
)
def test_what_decides_features_is_part_of_the_key(
    bench: Bench, change: Callable[[Bench], None]
) -> None:
    bench.extract()
    before = bench.home
    assert bench.computed() == 0
    change(bench)
    assert bench.home != before
    assert bench.computed() == len(bench.pictures)


@pytest.mark.parametrize(
    "name", ["FEATURE_VERSION", "torch.__version__", "torchvision.__version__", "PIL.__version__"]
)
def test_the_version_of_the_code_is_part_of_the_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bench.extract()
    monkeypatch.setattr(f"{cache_module.__name__}.{name}", "99")
    assert bench.computed() == PICTURES


def test_what_does_not_decide_features_is_not(bench: Bench) -> None:
    before = bench.home
    card = replace(CARD, title="Other", note="other", pooling="avg")  # a ResNet's own
    bench.extractor = replace(bench.extractor, source=source_of(card), output_stride=32)
    assert bench.home == before


def test_multi_label_pictures(bench: Bench) -> None:
    pictures = [
        MultiLabelled(one.name, one.image, (1, -1, 0), (bench.pictures[0].image,))
        for one in bench.pictures
    ]
    options: dict[str, Any] = {"reporter": bench.reporter, "batch_size": BATCH}
    features = bench.cache.extract(bench.extractor, pictures, **options)
    assert torch.equal(features.tensor(), bench.extract().tensor())


class StopAfter:
    """Raises at the n-th call."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RunInterruptedError("stopped")


@pytest.mark.parametrize(("calls", "kept"), [(0, 0), (2, 0), (4, 8), (8, 16)])
def test_interrupted_and_resumed_is_uninterrupted(bench: Bench, calls: int, kept: int) -> None:
    whole = bench.extract().tensor()
    bench.cache = FeatureCache(bench.cache.folder.with_name("other"), shard=SHARD)
    with pytest.raises(RunInterruptedError):
        bench.extract(check_stop=StopAfter(calls))
    assert bench.computed() == PICTURES - kept
    assert torch.equal(bench.extract().tensor(), whole)
    assert bench.reporter.warnings == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage", [truncate, flip, Path.unlink, lambda path: path.write_bytes(b"")]
)
def test_a_damaged_file_alone_is_computed_anew(
    bench: Bench, damage: Callable[[Path], None]
) -> None:
    whole = bench.extract().tensor()
    damage(bench.home / "000001.npy")
    assert bench.computed() == SHARD
    (warning,) = bench.reporter.warnings
    assert "000001.npy is missing or damaged" in warning
    assert torch.equal(bench.extract().tensor(), whole)
    assert len(bench.reporter.warnings) == 1


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"identity": {}, "shards": {}}'])
def test_a_damaged_index_counts_for_nothing(bench: Bench, content: bytes) -> None:
    whole = bench.extract().tensor()
    (bench.home / "index.json").write_bytes(content)
    assert bench.computed() == PICTURES
    assert "index.json is damaged" in bench.reporter.warnings[0]
    assert torch.equal(bench.extract().tensor(), whole)


def test_a_file_without_a_checksum_is_not_believed(bench: Bench) -> None:
    bench.extract()
    index = bench.home / "index.json"
    content = json.loads(index.read_text())
    del content["shards"]["000002.npy"]
    index.write_text(json.dumps(content))
    assert bench.computed() == PICTURES - 2 * SHARD
    assert bench.reporter.warnings == []  # as after a crash between the two


def test_features_that_went_away_say_so(bench: Bench) -> None:
    features = bench.extract()
    (bench.home / "000001.npy").unlink()
    assert len(features[:SHARD]) == SHARD
    with pytest.raises(RecordError, match="run the same again"):
        features.tensor()


def test_a_picture_changed_meanwhile_is_not_stored(bench: Bench) -> None:
    def change(name: str, done: int) -> None:
        if done == 11:
            other_size(replace(bench, pictures=bench.pictures[7:]))

    bench.reporter.on_step = change
    with pytest.raises(DataError, match=r"08\.png and .*15\.png was changed"):
        bench.extract()
    bench.reporter.on_step = lambda name, done: None
    assert bench.computed() == PICTURES


def test_pictures_that_are_missing_or_broken(bench: Bench) -> None:
    with pytest.raises(DataError, match="no pictures"):
        replace(bench, pictures=[]).extract()
    bench.pictures[9].image.write_bytes(b"no picture")
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"^cannot read the picture .*09\.png: [^\n]*$"):
            bench.extract(workers=workers)
    bench.pictures[9].image.unlink()
    with pytest.raises(DataError, match=r"09\.png is in the list of pictures but missing"):
        bench.extract()


def test_features_that_are_not_finite_name_the_picture(bench: Bench) -> None:
    backbone = TinyBackbone()
    with torch.no_grad():
        backbone.convolution.weight *= 1e38
    trunk = CountingTrunk(backbone, fold=False)
    bench.extractor = replace(bench.extractor, trunk=trunk)
    with pytest.raises(CheckpointError, match=r"00\.png that are not finite"):
        bench.extract()


def test_a_folder_that_cannot_be_made(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bench.cache = FeatureCache(tmp_path / "file" / "cache", shard=SHARD)
    with pytest.raises(RecordError, match="cannot write into"):
        bench.extract()


def test_a_folder_without_permission(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, **options: Any) -> None:  # chmod stops everybody but root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(RecordError, match="Permission denied"):
        bench.extract()


def test_a_full_disk_keeps_what_is_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = checksums.write_atomic

    def full(path: Path, content: bytes) -> None:
        if path.name == "000001.npy":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(checksums, "write_atomic", full)
    with pytest.raises(RecordError, match="No space left on device; free some space"):
        bench.extract()
    monkeypatch.undo()
    assert bench.computed() == PICTURES - SHARD


def test_two_at_once_compute_once(bench: Bench) -> None:
    other = replace(bench, cache=FeatureCache(bench.cache.folder, shard=SHARD), reporter=Silent())
    waiting = threading.Event()
    found: list[Tensor] = []
    thread = threading.Thread(
        target=lambda: found.append(other.extract(check_stop=waiting.set).tensor())
    )

    def begin(name: str, done: int) -> None:
        if done == 3:
            thread.start()
            assert waiting.wait(60)

    bench.reporter.on_step = begin
    features = bench.extract().tensor()
    thread.join(60)
    assert bench.trunk.seen == PICTURES
    assert torch.equal(found[0], features)


def test_two_at_once_share_the_files(bench: Bench) -> None:
    """Each takes one file at a time; both end with all of them."""
    trunk = CountingTrunk(TinyBackbone(), fold=False)
    other = replace(
        bench,
        cache=FeatureCache(bench.cache.folder, shard=SHARD, claim=1),
        extractor=replace(bench.extractor, trunk=trunk),
        reporter=Silent(),
    )
    bench.cache = FeatureCache(bench.cache.folder, shard=SHARD, claim=1)
    found: list[Tensor] = []
    taken = threading.Event()
    thread = threading.Thread(target=lambda: found.append(other.extract().tensor()))
    other.reporter.on_step = lambda name, done: taken.set() if done >= 3 else None

    def wait_for_other(name: str, done: int) -> None:
        if done == 3:
            thread.start()
            assert taken.wait(60)

    bench.reporter.on_step = wait_for_other
    features = bench.extract().tensor()
    thread.join(60)
    assert trunk.seen > 0 and bench.trunk.seen >= SHARD
    assert trunk.seen + bench.trunk.seen == PICTURES
    assert torch.equal(found[0], features)


def test_waiting_can_be_stopped(bench: Bench) -> None:
    def stop_another(name: str, done: int) -> None:
        if done == 3:
            with pytest.raises(RunInterruptedError):
                replace(bench, reporter=Silent()).extract(check_stop=StopAfter(1))

    bench.reporter.on_step = stop_another
    assert len(bench.extract()) == PICTURES
