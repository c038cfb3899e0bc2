"""The real ResNet-50 on real pictures, where ../shared is at hand."""

from pathlib import Path

import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from vicregl_bench.backbones.fit import normalise
from vicregl_bench.backbones.frozen import fold_batch_norm
from vicregl_bench.backbones.pictures import centre_crops
from vicregl_bench.backbones.source import BackboneSource, read_backbone

FILE = "weights/resnet50_v1_imagenet_fp16.pth"


def pooled(source: BackboneSource, paths: list[Path]) -> Tensor:
    """Pooled features of centre crops of 224 px, as the card wants their input."""
    backbone = fold_batch_norm(source.build()).to(memory_format=torch.channels_last)
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(paths), 25):
            crops = normalise(centre_crops(paths[start : start + 25], 224), source.card)
            maps = backbone(crops.to(memory_format=torch.channels_last))
            vectors.append(maps[-1].mean(dim=(2, 3)))
    return torch.cat(vectors)


def pictures(folder: Path) -> tuple[list[Path], list[str]]:
    paths = sorted(folder.glob("*/*"))
    return paths, [path.parent.name for path in paths]


def test_five_nearest_neighbours_on_imagenette(shared: Path) -> None:
    source = read_backbone(str(shared / FILE), arch="resnet50_v1")
    train, train_labels = pictures(shared / "data/imagenette224/train")
    val, val_labels = pictures(shared / "data/imagenette224/val")
    assert (len(train), len(val)) == (800, 400)
    neighbours = KNeighborsClassifier(n_neighbors=5, metric="cosine")
    neighbours.fit(pooled(source, train).numpy(), train_labels)
    accuracy = neighbours.score(pooled(source, val).numpy(), val_labels)
    print(f"five nearest neighbours: {accuracy:.4f}")
    assert accuracy >= 0.95


def test_half_precision_file_and_its_cast_agree(shared: Path, tmp_path: Path) -> None:
    state = torch.load(shared / FILE, weights_only=True)
    assert any(value.dtype == torch.float16 for value in state.values())
    torch.save({key: value.float() for key, value in state.items()}, tmp_path / "fp32.pth")
    half = read_backbone(str(shared / FILE), arch="resnet50_v1")
    full = read_backbone(str(tmp_path / "fp32.pth"), arch="resnet50_v1")
    assert half.weights_sha256 == full.weights_sha256
    paths, _ = pictures(shared / "data/imagenette224/val")
    assert torch.equal(pooled(half, paths[::100]), pooled(full, paths[::100]))
