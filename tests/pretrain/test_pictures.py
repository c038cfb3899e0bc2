import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.pictures import (
    PictureList,
    check_sizes,
    list_pictures,
    read_list,
    read_picture,
    take_subset,
    write_list,
)
from vicregl_bench.errors import ConfigError, DataError


def touch(root: Path, names: Sequence[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def checkerboard() -> Image.Image:
    """32 px high, 48 px wide; blocks of 8 px, which JPEG keeps."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1))


def encoded(kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    checkerboard().save(stream, kind, **options)
    return stream.getvalue()


def names_of(classes: int, each: int) -> tuple[str, ...]:
    return tuple(f"c{c}/{k:03}.jpg" for c in range(classes) for k in range(each))


def test_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["b/2.JPG", "b/1.jpeg", "a/x.Png", "a/deep/y.webp", "c/z.TIFF", "c/w.bmp"])
    touch(tmp_path, ["a/notes.txt", "a/.hidden.jpg", "c/x.jpg.part", ".thumbs/x.jpg", "c/.y/z.png"])
    (tmp_path / "c" / "folder.jpg").mkdir()
    found = list_pictures(tmp_path)
    expected = ("a/deep/y.webp", "a/x.Png", "b/1.jpeg", "b/2.JPG", "c/w.bmp", "c/z.TIFF")
    assert found.names == expected
    assert found.classes == ("a", "b", "c")
    assert found.labels() == [0, 0, 1, 1, 2, 2]
    assert found.sha256 == hashlib.sha256(json.dumps(expected).encode()).hexdigest()


def test_flat_folder(tmp_path: Path) -> None:
    touch(tmp_path, ["2.jpg", "10.tif", "1.png"])
    found = list_pictures(tmp_path)
    assert found.names == ("1.png", "10.tif", "2.jpg")
    assert found.classes == ()
    with pytest.raises(DataError, match="no class folders"):
        found.labels()


def test_a_picture_beside_class_folders_makes_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, ["a/1.jpg", "b/1.jpg", "cover.jpg"])
    assert list_pictures(tmp_path).classes == ()


def test_links_to_class_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    touch(tmp_path, ["all/a/1.jpg", "all/b/1.jpg", "all/c/1.jpg"])
    part = tmp_path / "part"
    part.mkdir()
    for name in ("a", "c"):
        (part / name).symlink_to(tmp_path / "all" / name)
    (part / "c" / "again").symlink_to(part)
    assert list_pictures(part).names == ("a/1.jpg", "c/1.jpg")


def test_a_hidden_folder_may_be_the_root(tmp_path: Path) -> None:
    touch(tmp_path, [".cache/a/1.jpg"])
    assert list_pictures(tmp_path / ".cache").names == ("a/1.jpg",)


def test_nothing_to_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list_pictures(tmp_path / "missing")
    with pytest.raises(DataError, match=r"no picture .*\.jpg .*\.webp"):
        list_pictures(tmp_path)


def test_hash_is_that_of_the_names_alone() -> None:
    names = ("a/1.jpg", "b/ü.jpg")
    one, other = PictureList(Path("x"), names), PictureList(Path("y"), names)
    known = "a4c41d61df53a0822066dd06dd3e32754cf182b02f863b50068bdc5b7ddc8038"
    assert one.sha256 == other.sha256 == known
    assert one.sha256 != PictureList(Path("x"), names[::-1]).sha256


def test_subsets_are_balanced_and_nested() -> None:
    whole = PictureList(Path("x"), names_of(3, 40))
    before: set[str] = set()
    for amount in (1, 2, 0.1, 5, 10, 0.5, 40):
        part = take_subset(whole, amount)
        each = int(amount * 40) if amount < 1 else int(amount)
        assert Counter(name[:2] for name in part.names) == dict.fromkeys(("c0", "c1", "c2"), each)
        assert list(part.names) == sorted(part.names)
        assert before <= set(part.names)
        before = set(part.names)
    assert part == whole


def test_subset_is_the_same_everywhere() -> None:
    whole = PictureList(Path("x"), names_of(2, 100))
    part = take_subset(whole, 2)
    hashes = {n: hashlib.sha256(f"0:{n}".encode()).hexdigest() for n in whole.names}
    expected = [
        n for c in ("c0", "c1") for n in sorted(hashes, key=lambda n: hashes[n]) if n[:2] == c
    ]
    assert set(part.names) == {*expected[:2], *expected[100:102]}
    assert part.sha256 == "cd800e001b5f80560876ca736462aa2fdc1eac6b1c4691c59a23640ae658602f"
    assert take_subset(PictureList(Path("y"), whole.names), 2).names == part.names
    assert take_subset(whole, 2, seed=1).names != part.names


def test_adding_a_class_leaves_the_others_choice() -> None:
    small, large = (PictureList(Path("x"), names_of(c, 20)) for c in (2, 3))
    assert set(take_subset(small, 4).names) < set(take_subset(large, 4).names)


def test_share_of_a_flat_folder() -> None:
    flat = PictureList(Path("x"), tuple(f"{k:03}.jpg" for k in range(50)))
    assert len(take_subset(flat, 0.1).names) == 5
    with pytest.raises(ConfigError, match="no class folders: give a share"):
        take_subset(flat, 5)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "pictures a class, or a share"),
        (-0.5, "pictures a class, or a share"),
        (1.5, "pictures a class, or a share"),
        (21, "c0 has only 20 pictures"),
        (0.01, "leaves none"),
    ],
)
def test_impossible_subsets(amount: float, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        take_subset(PictureList(Path("x"), names_of(2, 20)), amount)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "PNG"])
def test_lossless_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    checkerboard().save(path)
    expected = torch.from_numpy(np.array(checkerboard())).permute(2, 0, 1)
    found = read_picture(path)
    assert found.dtype == torch.uint8 and found.shape == (3, 32, 48) and found.is_contiguous()
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP")])
def test_lossy_pictures_are_those_of_pillow(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(encoded(kind, quality=95))
    with Image.open(path) as picture:
        expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    # another build of libjpeg rounds otherwise
    torch.testing.assert_close(read_picture(path), expected, rtol=0, atol=2)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "png"),
        ("L", "jpg"),
        ("L", "bmp"),
        ("1", "png"),
        ("LA", "png"),
        ("P", "png"),
        ("P", "bmp"),
        ("RGBA", "png"),
        ("RGBA", "webp"),
        ("CMYK", "jpg"),
        ("CMYK", "tif"),
    ],
)
def test_other_colours_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    picture = checkerboard().convert(mode)
    picture.save(path, **({"lossless": True} if suffix == "webp" else {}))
    expected = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    found = read_picture(path)
    assert found.dtype == torch.uint8 and found.shape == (3, 32, 48)
    # JPEG: quantisation of blocks that are even
    torch.testing.assert_close(found, expected, rtol=0, atol=4 if suffix == "jpg" else 0)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_transparency_of_a_palette_is_dropped(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([17, 34, 51, 68, 85, 102])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "x.png", transparency=bytes([0, 128]))
    assert read_picture(tmp_path / "x.png").tolist() == [[[17, 68]], [[34, 85]], [[51, 102]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 255, 256, 0x8080, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / f"x.{suffix}")
    found = read_picture(tmp_path / f"x.{suffix}")
    assert found.dtype == torch.uint8
    assert found.tolist() == [[[0, 0, 1, 0x80, 0xFF]]] * 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP"])
def test_the_content_counts_and_not_the_suffix(tmp_path: Path, kind: str) -> None:
    """ImageNet has a PNG among its JPEGs."""
    path = tmp_path / "x.JPEG"
    path.write_bytes(encoded(kind))
    assert read_picture(path).shape == (3, 32, 48)
    (tmp_path / "y.png").write_bytes(encoded("JPEG"))
    assert read_picture(tmp_path / "y.png").shape == (3, 32, 48)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(tmp_path: Path, kind: str) -> None:
    more = [Image.new("RGB", (48, 32), "red")]
    (tmp_path / "x.jpg").write_bytes(encoded(kind, save_all=True, append_images=more))
    (tmp_path / "one.jpg").write_bytes(encoded(kind))
    found, still = read_picture(tmp_path / "x.jpg"), read_picture(tmp_path / "one.jpg")
    assert found.shape == (3, 32, 48)
    torch.testing.assert_close(found.float().mean(), still.float().mean(), rtol=0, atol=2.0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("png", {}),
        ("webp", {}),
        ("bmp", {}),
        ("tiff", {}),
    ],
)
def test_truncated_pictures_are_refused(
    tmp_path: Path, suffix: str, options: dict[str, Any], share: float
) -> None:
    whole = encoded("JPEG" if suffix == "jpg" else suffix.upper(), **options)
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"x\.\w+: not a readable picture \(.+\)$") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_a_jpeg_without_its_last_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(encoded("JPEG")[:-2])
    with pytest.raises(DataError, match="truncated"):
        read_picture(tmp_path / "x.jpg")


def test_damaged_pngs_are_refused(tmp_path: Path) -> None:
    """Torchvision's decoder crashes on, or hangs over, one in a few hundred of these."""
    whole, generator = encoded("PNG"), np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(whole)
        for place in generator.integers(40, len(whole) - 20, 4):
            damaged[place] ^= 0x55
        (tmp_path / "x.png").write_bytes(damaged)
        with pytest.raises(DataError, match="not a readable picture"):
            read_picture(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_no_pictures_at_all(tmp_path: Path, suffix: str) -> None:
    contents = {"empty": b"", "text": b"hello" * 30, "jpeg": b"\xff\xd8", "noise": b"\xff\xd8" * 30}
    for name, content in contents.items():
        (tmp_path / f"{name}.{suffix}").write_bytes(content)
    (tmp_path / f"folder.{suffix}").mkdir()
    for name in (*contents, "folder", "missing"):
        with pytest.raises(DataError, match=f"{name}.{suffix}: not a readable picture"):
            read_picture(tmp_path / f"{name}.{suffix}")


def test_claims_of_a_gigantic_picture_are_refused(tmp_path: Path) -> None:
    header = bytearray(encoded("BMP"))
    header[18:26] = (60000).to_bytes(4, "little") * 2  # width and height
    (tmp_path / "x.bmp").write_bytes(header)
    with pytest.raises(DataError, match="exceeds limit"):
        read_picture(tmp_path / "x.bmp")


def save_sizes(root: Path, sides: Sequence[int]) -> PictureList:
    for k, side in enumerate(sides):
        Image.new("RGB", (side, side + 10)).save(root / f"{k}.png")
    return list_pictures(root)


def test_sizes_are_looked_at(tmp_path: Path) -> None:
    pictures = save_sizes(tmp_path, [20, 40, 60])
    check_sizes(pictures, 40, upscale=False)
    with pytest.raises(DataError, match=r"41 px .*typically 40 px.*views.large_size.*upscale=true"):
        check_sizes(pictures, 41, upscale=False)
    check_sizes(pictures, 41, upscale=True)


def test_sizes_of_unreadable_pictures(tmp_path: Path) -> None:
    pictures = save_sizes(tmp_path, [20, 40, 60])
    (tmp_path / "0.png").write_bytes(b"")
    check_sizes(pictures, 60, upscale=False)
    for k in (1, 2):
        (tmp_path / f"{k}.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"none of 3 pictures can be read.*not a readable picture"):
        check_sizes(pictures, 20, upscale=True)


def test_only_some_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = save_sizes(tmp_path, [20] * 9)
    seen: list[str] = []

    def read(path: Path) -> torch.Tensor:
        seen.append(path.name)
        return read_picture(path)

    monkeypatch.setattr("pretrain.pictures.read_picture", read)
    check_sizes(pictures, 20, upscale=False, looked=4)
    assert len(set(seen)) == 4
    assert sorted(seen) != sorted(pictures.names)[:4]  # spread over the list


def test_names_written_one_a_line(tmp_path: Path) -> None:
    write_list(["a/1.jpg", "b/ü.jpg"], tmp_path / "pictures.txt")
    assert (tmp_path / "pictures.txt").read_bytes() == "a/1.jpg\nb/ü.jpg\n".encode()


def test_names_of_any_bytes_are_listed_and_read_back(tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xff.png"), "a\u2028b.png"]
    write_list(names, tmp_path / "list.txt")
    assert read_list(tmp_path / "list.txt") == set(names)
    take_subset(PictureList(tmp_path, tuple(names)), 0.5)
