import importlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tvf

from pretrain.augment import NORMALISATION
from pretrain.pictures import PictureList, list_pictures, read_picture
from pretrain.probe import (
    ProbeScores,
    extract,
    knn_accuracy,
    linear_accuracy,
    read_probe,
    score,
)
from vicregl_bench.errors import DataError

PAPER = NORMALISATION["paper"]


class Means(nn.Module):
    """A backbone that gives the mean colour, after a BatchNorm and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, eps=0.0)
        self.drop = nn.Dropout(0.5)
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.batches.append(len(x))
        maps = self.drop(self.norm(x))
        return maps, maps.mean(dim=(2, 3))


def touch(root: Path, sizes: dict[str, int]) -> None:
    for name, count in sizes.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            (root / name / f"{k:03}.jpg").touch()


def per_class(pictures: PictureList) -> dict[str, int]:
    return dict(Counter(name.partition("/")[0] for name in pictures.names))


def test_train_and_val_folders(tmp_path: Path) -> None:
    touch(tmp_path, {"train/a": 6, "train/b": 4, "val/a": 2, "val/b": 2, "test/c": 5})
    data = read_probe(tmp_path, 100)
    assert data.bank == list_pictures(tmp_path / "train")
    assert data.queries == list_pictures(tmp_path / "val")


def test_class_folders_are_halved(tmp_path: Path) -> None:
    touch(tmp_path, {"a": 10, "b": 20, "c": 6})
    data = read_probe(tmp_path, 100)
    assert per_class(data.bank) == per_class(data.queries) == {"a": 5, "b": 10, "c": 3}
    assert not set(data.bank.names) & set(data.queries.names)
    assert {*data.bank.names, *data.queries.names} == set(list_pictures(tmp_path).names)
    assert data == read_probe(tmp_path, 100)
    assert data.bank.root == data.queries.root == tmp_path


def test_large_parts_are_thinned_class_by_class(tmp_path: Path) -> None:
    touch(tmp_path, {"train/a": 40, "train/b": 40, "val/a": 10, "val/b": 10})
    data = read_probe(tmp_path, 20)
    assert per_class(data.bank) == {"a": 10, "b": 10}
    assert per_class(data.queries) == {"a": 10, "b": 10}
    assert read_probe(tmp_path, 20) == data


def test_no_class_is_lost_in_thinning(tmp_path: Path) -> None:
    """A class missing from one part would shift the labels of those after it."""
    touch(tmp_path, {"train/a": 2, "train/b": 60, "train/c": 60})
    touch(tmp_path, {"val/a": 1, "val/b": 9, "val/c": 9})
    data = read_probe(tmp_path, 12)
    assert per_class(data.bank) == {"a": 1, "b": 6, "c": 6}
    assert data.bank.classes == data.queries.classes == ("a", "b", "c")
    assert per_class(read_probe(tmp_path, 1).bank) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    "sizes",
    [
        {"train/a": 2, "train/b": 2, "val/a": 2, "val/c": 2},
        {"train/a": 2, "train/b": 2, "val/a": 2},
        {"train/a": 4, "train/b": 4},  # no val: "train" would be the only class
        {"a": 4},
        {"a": 4, "b": 1},  # nothing to ask about, or nothing to remember, of b
        {".": 6},
    ],
)
def test_unusable_folders(tmp_path: Path, sizes: dict[str, int]) -> None:
    (tmp_path / "data").mkdir()
    for name, count in sizes.items():
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            (tmp_path / "data" / name / f"{k}.jpg").touch()
    with pytest.raises(DataError, match=r"data: the probe needs train/ and val/"):
        read_probe(tmp_path / "data", 100)


def test_nothing_to_probe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_probe(tmp_path / "missing", 10)


def test_features_are_those_of_normalised_centre_crops(pictures: Path) -> None:
    listed = list_pictures(pictures)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 120, 3), dtype=np.uint8)).save(
        pictures / listed.names[4]
    )
    backbone = Means().eval()
    found = extract(backbone, listed, 56, PAPER)
    expected = []
    for name in listed.names:
        picture = tvf.resize(read_picture(pictures / name), [64], antialias=True)
        crop = tvf.to_dtype(tvf.center_crop(picture, [56, 56]), torch.float32, scale=True)
        expected.append(tvf.normalize(crop, *PAPER).mean(dim=(1, 2)))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_extract_puts_the_mode_back_and_leaves_the_statistics(pictures: Path) -> None:
    backbone = Means()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    listed = list_pictures(pictures)
    for training in (True, False):
        backbone.train(training)
        first, again = (extract(backbone, listed, 32, PAPER) for _ in range(2))
        assert torch.equal(first, again)
        assert not first.requires_grad
        assert [m.training for m in backbone.modules()] == [training] * 3
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key])


def test_extract_puts_the_mode_back_after_a_failure(pictures: Path) -> None:
    listed = list_pictures(pictures)
    (pictures / listed.names[3]).write_bytes(b"no")
    backbone = Means()
    with pytest.raises(DataError, match="not a readable picture"):
        extract(backbone, listed, 32, PAPER)
    assert backbone.training


def test_extract_works_batch_by_batch(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, backbone, done = list_pictures(pictures), Means(), []
    whole = extract(backbone, listed, 32, PAPER)
    monkeypatch.setattr("pretrain.probe._BATCH", 8)
    parts = extract(backbone, listed, 32, PAPER, done.append)
    assert (backbone.batches, done) == ([20, 8, 8, 4], [8, 16, 20])
    torch.testing.assert_close(parts, whole)


def features(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 5, 20, 1000])
def test_knn_is_that_of_a_loop(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels, asked = (torch.randint(0, 4, (n,), generator=generator) for n in (60, 40))
    centres = features(4, 6, seed=1)
    bank = centres[labels] + features(60, 6, seed=2)
    queries = centres[asked] + features(40, 6, seed=3)
    right = 0
    for query, label in zip(queries, asked, strict=True):
        cosines = torch.tensor([float(torch.cosine_similarity(query, b, dim=0)) for b in bank])
        votes = [0.0] * 4
        for i in cosines.argsort(descending=True)[:k].tolist():
            votes[int(labels[i])] += float(np.exp(cosines[i] / 0.07))
        right += int(np.argmax(votes)) == int(label)
    assert 10 < right < 40
    assert knn_accuracy(bank, labels, queries, asked, k) == pytest.approx(100 * right / 40)


def test_nearest_neighbour_finds_itself() -> None:
    bank, labels = features(30, 8, seed=0), torch.arange(30) % 3
    assert knn_accuracy(bank, labels, 7 * bank, labels, 1) == 100.0
    assert knn_accuracy(bank, labels, 7 * bank, (labels + 1) % 3, 1) == 0.0


def test_near_votes_outweigh_many() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.5, 1.0], [0.5, 1.0]])
    query, labels = torch.tensor([[1.0, 0.05]]), torch.tensor([0, 1, 1])
    assert knn_accuracy(bank, labels, query, torch.tensor([0]), 3) == 100.0


def test_linear_probe_of_separable_features() -> None:
    labels = torch.arange(90) % 3
    offsets = torch.eye(3, 5)[labels] * 6
    bank, queries = offsets + features(90, 5, seed=0), offsets + features(90, 5, seed=1)
    shifted = 100 + 1e-3 * bank, 100 + 1e-3 * queries  # standardised away
    assert linear_accuracy(bank, labels, queries, labels) == 100.0
    # float32 has 1e-5 left of 1e-3 beside 100
    assert linear_accuracy(shifted[0], labels, shifted[1], labels) >= 98.0


def test_linear_probe_is_sklearns() -> None:
    linear_model = importlib.import_module("sklearn.linear_model")
    generator = torch.Generator().manual_seed(0)
    labels, asked = (torch.randint(0, 3, (n,), generator=generator) for n in (60, 300))
    centres = features(3, 4, seed=1)
    bank, queries = (centres[y] + features(len(y), 4, seed=s) for y, s in ((labels, 2), (asked, 3)))
    mean, std = bank.mean(0), bank.std(0)
    # sklearn: C times the sum of losses, ours: the mean, with a ridge of 0.01
    peer = linear_model.LogisticRegression(C=1 / (0.01 * 60), max_iter=1000)
    peer.fit(((bank - mean) / std).numpy(), labels.numpy())
    expected = 100 * peer.score(((queries - mean) / std).numpy(), asked.numpy())
    assert 50 < expected < 95
    # one query near a border may fall on the other side
    assert linear_accuracy(bank, labels, queries, asked) == pytest.approx(expected, abs=0.4)


def test_linear_probe_inside_no_grad_and_with_a_dead_dimension() -> None:
    labels = torch.arange(20) % 2
    bank = torch.stack([labels * 2.0 - 1.0, torch.full((20,), 3.0)], dim=1)
    with torch.no_grad():
        assert linear_accuracy(bank, labels, bank, labels) == 100.0


def test_scores_of_colours(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for c, colour in enumerate(((200, 30, 30), (30, 200, 30), (30, 30, 200))):
            (tmp_path / part / str(c)).mkdir(parents=True)
            for k in range(4):
                noisy = np.array(colour) + generator.integers(-20, 20, (40, 40, 3))
                path = tmp_path / part / str(c) / f"{k}.png"
                Image.fromarray(noisy.astype(np.uint8)).save(path)
    data, done = read_probe(tmp_path, 100), []
    found = score(Means(), data, size=32, normalisation=PAPER, k=3, on_progress=done.append)
    assert found == ProbeScores(100.0, 100.0)
    assert done == [12, 24]
