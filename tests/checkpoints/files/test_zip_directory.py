import io
import zipfile
from pathlib import Path

import pytest
import torch

from tests.checkpoints.files.hostile import error_of
from vicregl_bench.checkpoints import read_file
from vicregl_bench.checkpoints.files.zip_directory import read_directory


def write(path: Path) -> bytes:
    torch.save({"w": torch.ones(10)}, path)
    return path.read_bytes()


def test_entries_are_listed_in_order(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b", b"x" * 1000)
        archive.writestr(zipfile.ZipInfo("a"), b"12")
    first, second = read_directory(tmp_path / "f")
    assert (first.name, first.size, first.method) == ("b", 1000, zipfile.ZIP_DEFLATED)
    assert (second.name, second.size, second.packed, second.method) == ("a", 2, 2, 0)


def test_large_archives_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)  # write zip64 records already now
    with zipfile.ZipFile(tmp_path / "f", "w") as archive:
        for name in "abc":
            archive.writestr(name, b"x")
    assert b"PK\x06\x06" in (tmp_path / "f").read_bytes()
    assert [entry.name for entry in read_directory(tmp_path / "f")] == ["a", "b", "c"]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_truncated_archive(tmp_path: Path, share: float) -> None:
    data = write(tmp_path / "f.pth")
    (tmp_path / "f.pth").write_bytes(data[: int(len(data) * share)])
    assert "truncated or damaged" in error_of(tmp_path / "f.pth")


@pytest.mark.parametrize("behind", [b"x", b"PK\x05\x06" + bytes(18)])
def test_bytes_behind_the_list(tmp_path: Path, behind: bytes) -> None:
    data = write(tmp_path / "f.pth")
    (tmp_path / "f.pth").write_bytes(data + behind)
    assert "truncated or damaged" in error_of(tmp_path / "f.pth")


def test_bytes_before_the_archive(tmp_path: Path) -> None:
    data = write(tmp_path / "f.pth")
    (tmp_path / "f.pth").write_bytes(b"PK\x03\x04" + data)
    assert "truncated or damaged" in error_of(tmp_path / "f.pth")


def test_two_archives_in_one_file(tmp_path: Path) -> None:
    data = write(tmp_path / "f.pth")
    (tmp_path / "f.pth").write_bytes(data + data)
    assert "truncated or damaged" in error_of(tmp_path / "f.pth")


def test_names_in_two_cases_are_one_to_torch(tmp_path: Path) -> None:
    write(tmp_path / "f.pth")
    with zipfile.ZipFile(tmp_path / "f.pth", "a") as archive:
        archive.writestr("f/DATA.pkl", b"N.")
    assert "same name" in error_of(tmp_path / "f.pth")


def test_same_name_twice(tmp_path: Path) -> None:
    stream = io.BytesIO(write(tmp_path / "f.pth"))
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("f/data.pkl", b"N.")
    (tmp_path / "f.pth").write_bytes(stream.getvalue())
    assert "same name" in error_of(tmp_path / "f.pth")


def test_encrypted_archive(tmp_path: Path) -> None:
    write(tmp_path / "f.pth")
    with zipfile.ZipFile(tmp_path / "f.pth", "a") as archive:
        archive.infolist()[0].flag_bits |= 1
        archive._didModify = True  # type: ignore[attr-defined]
    assert "encrypted" in error_of(tmp_path / "f.pth")


def test_names_differ_in_list_and_entry(tmp_path: Path) -> None:
    data = write(tmp_path / "f.pth")
    (tmp_path / "f.pth").write_bytes(data.replace(b"f/data.pkl", b"f/\xbbata.pkl", 1))
    assert "truncated or damaged" in error_of(tmp_path / "f.pth")


def test_whole_archive_is_read(tmp_path: Path) -> None:
    write(tmp_path / "f.pth")
    loaded = read_file(tmp_path / "f.pth")
    assert isinstance(loaded, dict) and loaded["w"].sum() == 10
