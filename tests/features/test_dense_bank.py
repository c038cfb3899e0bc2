"""The memory of patches: distributions, the choice, files, and the votes against plain loops."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from vicregl_bench.errors import CheckpointError, DataError, RecordError
from vicregl_bench.features import dense_bank as module
from vicregl_bench.features.dense_bank import (
    Annotated,
    DenseBank,
    build_bank,
    choose_patches,
    patch_labels,
    weighted_labels,
)
from vicregl_bench.features.extractor import CentralCrop
from vicregl_bench.features.knn import nearest_rows

CLASSES, SIDE = 3, 32


def test_distributions_of_a_hand_made_annotation() -> None:
    labels = np.array([[0, 0, 1, 255], [0, 2, 1, 1], [255, 255, 2, 2], [255, 255, 0, 2]], np.uint8)
    assert patch_labels(labels, CLASSES, (2, 2)).tolist() == [
        [0.75, 0.0, 0.25],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0],
        [0.25, 0.0, 0.75],
    ]


@pytest.mark.parametrize(
    ("size", "grid"), [((37, 53), (5, 7)), ((4, 3), (8, 8)), ((64, 32), (4, 2))]
)
def test_distributions_are_those_of_a_plain_loop(size: Any, grid: Any) -> None:
    labels = np.random.default_rng(0).choice([0, 1, 2, 255], size=size).astype(np.uint8)
    expected = np.zeros((grid[0] * grid[1], CLASSES))
    for y in range(size[0]):
        for x in range(size[1]):
            if labels[y, x] < CLASSES:
                patch = int(y * grid[0] / size[0]) * grid[1] + int(x * grid[1] / size[1])
                expected[patch, labels[y, x]] += 1
    expected /= np.maximum(1, expected.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(patch_labels(labels, CLASSES, grid), expected, rtol=1e-6)


def test_rare_classes_are_chosen_first() -> None:
    shares = np.zeros((100, CLASSES), np.float32)
    shares[:, 0] = 1
    shares[::20] = [0, 1, 0]
    shares[7] = 0  # ignored
    picked = np.array(
        [
            np.isin(np.arange(0, 100, 20), choose_patches(shares, 20, (0, n))).mean()
            for n in range(50)
        ]
    )
    assert picked.mean() > 0.8  # 0.2 without regard to classes
    for n in range(50):
        chosen = choose_patches(shares, 20, (0, n))
        assert len(set(chosen.tolist())) == 20 and 7 not in chosen
        assert chosen.tolist() == sorted(chosen)
    assert (
        choose_patches(shares, 20, (0, 3)).tolist() == choose_patches(shares, 20, (0, 3)).tolist()
    )
    assert (
        choose_patches(shares, 20, (0, 3)).tolist() != choose_patches(shares, 20, (1, 3)).tolist()
    )
    assert choose_patches(shares, 99, (0, 0)).tolist() == [n for n in range(100) if n != 7]


@pytest.mark.parametrize("at_once", [1, 2**25])
def test_votes_are_those_of_a_plain_loop(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(n, 8, generator=generator) for n in (50, 9))
    labels = torch.rand(50, CLASSES, generator=generator)
    similarities, indices = nearest_rows(bank, queries, 10)
    found = weighted_labels(similarities, indices, labels, [3, 10], 0.1)
    for number, k in enumerate((3, 10)):
        for row in range(9):
            cosines = np.array(
                [float(queries[row] @ one / queries[row].norm() / one.norm()) for one in bank]
            )
            near = np.argsort(-cosines)[:k]
            weights = np.exp(cosines[near] / 0.1)
            expected = sum(
                weight * labels[int(one)].numpy()
                for weight, one in zip(weights / weights.sum(), near, strict=True)
            )
            np.testing.assert_allclose(found[number, row].numpy(), expected, rtol=1e-4)


@pytest.fixture()
def pictures(tmp_path: Path) -> Annotated:
    """Five of random pixels, the third with an annotation of ignored pixels alone."""
    generator = np.random.default_rng(0)
    annotations: list[npt.NDArray[np.uint8]] = []
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(paths[-1])
        annotations.append(generator.integers(0, CLASSES, (20, 24)).astype(np.uint8))
    annotations[2][:] = 255
    return Annotated(paths, annotations.__getitem__, CLASSES)


def maps(crops: Tensor) -> Tensor:
    """(B, 12, 8, 8) of the pixels themselves."""
    return torch.nn.functional.pixel_unshuffle(crops.float(), 4)[:, :12]


def build(folder: Path, pictures: Annotated, **options: Any) -> DenseBank:
    chosen = {"per_picture": 10, "seed": 0, "identity": {}} | options
    give = chosen.pop("maps", maps)
    return build_bank(folder, pictures, give, CentralCrop((SIDE, SIDE), SIDE), **chosen)


def test_a_bank_has_the_vectors_and_labels_of_the_chosen_patches(
    tmp_path: Path, pictures: Annotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD", 20)  # two pictures a file
    bank = build(tmp_path / "bank", pictures)
    assert bank.shape == (40, 12) and bank.labels.shape == (40, CLASSES)
    assert len(list((tmp_path / "bank").glob("??????.npy"))) == 3
    row = 0
    for index in (0, 1, 3, 4):
        shares = patch_labels(pictures.labels(index), CLASSES, (8, 8))
        chosen = choose_patches(shares, 10, (0, index))
        pixels = np.asarray(Image.open(pictures.paths[index]))
        vectors = maps(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])[0]
        expected = vectors.flatten(1).T[chosen]
        assert torch.equal(bank[row : row + 10], expected)  # integers up to 255 are exact
        np.testing.assert_allclose(bank.labels[row : row + 10].numpy(), shares[chosen], atol=1e-3)
        row += 10
    whole = bank[0:40]
    for first, last in ((0, 5), (5, 25), (19, 21), (33, 99), (40, 50), (7, 7)):
        assert torch.equal(bank[first:last], whole[first:last])
    with pytest.raises(ValueError, match="no step"):
        bank[::2]


def test_a_stopped_bank_is_finished_to_the_same(
    tmp_path: Path, pictures: Annotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD", 20)
    whole = build(tmp_path / "whole", pictures)
    seen: list[int] = []

    def counted(crops: Tensor) -> Tensor:
        seen.append(len(crops))
        return maps(crops)

    def stop() -> None:
        if sum(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "parts", pictures, maps=counted, check_stop=stop)
    seen.clear()
    done: list[int] = []
    finished = build(tmp_path / "parts", pictures, maps=counted, on_progress=done.append)
    assert seen == [1] and done == [4, 5]
    assert torch.equal(finished[0:40], whole[0:40]) and torch.equal(finished.labels, whole.labels)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def turn(path: Path) -> None:
    """Of the same shape and type."""
    np.save(path, np.roll(np.load(path), 1, axis=0))


@pytest.mark.parametrize("name", ["000000.npy", "000000.labels.npy"])
@pytest.mark.parametrize("damage", [cut, turn, Path.unlink])
def test_a_damaged_file_is_made_anew(
    tmp_path: Path,
    pictures: Annotated,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(module, "_SHARD", 20)
    whole = build(tmp_path / "bank", pictures)
    vectors, seen, told = whole[0:40].clone(), list[int](), list[str]()

    def counted(crops: Tensor) -> Tensor:
        seen.append(len(crops))
        return maps(crops)

    damage(tmp_path / "bank" / name)
    mended = build(tmp_path / "bank", pictures, maps=counted, warn=told.append)
    assert seen == [2]
    assert torch.equal(mended[0:40], vectors) and torch.equal(mended.labels, whole.labels)
    assert len(told) == 1 and f"{name} is missing or damaged" in told[0]


def test_a_memory_of_other_maps_counts_for_nothing(tmp_path: Path, pictures: Annotated) -> None:
    build(tmp_path / "bank", pictures)
    told: list[str] = []
    bank = build(
        tmp_path / "bank",
        pictures,
        maps=lambda crops: maps(crops) + 1,
        identity={"weights": "other"},
        warn=told.append,
    )
    expected = build(tmp_path / "other", pictures, maps=lambda crops: maps(crops) + 1)
    assert torch.equal(bank[0:40], expected[0:40]) and len(told) == 1


def test_unusable_pictures_and_features(tmp_path: Path, pictures: Annotated) -> None:
    with pytest.raises(CheckpointError, match=r"0\.png that are not finite"):
        build(tmp_path / "a", pictures, maps=lambda crops: maps(crops) / 0)
    ignored = Annotated(pictures.paths, lambda index: pictures.labels(2), CLASSES)
    with pytest.raises(DataError, match="no training picture has a labelled pixel"):
        build(tmp_path / "b", ignored)
    build(tmp_path / "c", pictures)
    (tmp_path / "c/000000.labels.npy").unlink()
    with pytest.raises(RecordError, match="went away or broke"):
        DenseBank([tmp_path / "c/000000.npy"])
    Path(pictures.paths[0]).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"0\.png"):
        build(tmp_path / "d", pictures)
