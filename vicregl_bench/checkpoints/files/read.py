"""Read a checkpoint file without running anything that its author put into it."""

import tarfile
from pathlib import Path
from typing import NoReturn

from vicregl_bench.checkpoints.files.numpy_file import is_npz, read_npy, read_npz
from vicregl_bench.checkpoints.files.pickle_file import DOWNLOAD, read_pickle, starts_pickle
from vicregl_bench.checkpoints.files.safetensors_file import is_safetensors, read_safetensors
from vicregl_bench.checkpoints.files.torch_file import is_legacy, read_legacy, read_zip
from vicregl_bench.checkpoints.files.zip_directory import read_directory
from vicregl_bench.errors import CheckpointError

_LOOKS_LIKE: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"<", "a web page or XML text; " + DOWNLOAD),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file"),
)


def read_file(path: str | Path, *, trust_pickle: bool = False) -> object:
    """Read a checkpoint file on the CPU, its kind told by its content.

    Read are files of `torch.save` (also from before 1.6), safetensors, plain pickles, `.npz`
    archives, and a dict put into an `.npy` by `np.save`. Tensors of torch's zip format and of
    safetensors are mapped, not read: they stay valid only while the file is left as it is. Nothing
    in the file is executed unless `trust_pickle` is set: apart from torch's own types only
    `argparse.Namespace`, plain containers and NumPy scalars, dtypes and arrays are rebuilt. The
    memory taken is bounded by the file's size: sizes that the file claims are checked first.

    Args:
        path: the file.
        trust_pickle: unpickle everything, which runs whatever code the file names.

    Returns:
        What was saved; tensors or NumPy arrays by name for safetensors (its metadata as
        `__metadata__`) and `.npz`.

    Raises:
        CheckpointError: the file does not exist, is a directory, is empty, is truncated or
            damaged, is no checkpoint, claims sizes that it does not have, or names foreign globals
            (each is listed) and `trust_pickle` is not set.
    """
    path = Path(path)
    head = _head(path)
    if is_safetensors(head):
        return read_safetensors(path)
    if head.startswith(b"PK"):
        entries = read_directory(path)
        if is_npz(entries):
            return read_npz(path, entries)
        return read_zip(path, entries, trust_pickle=trust_pickle)
    if head.startswith(b"\x93NUMPY"):
        return read_npy(path, trust_pickle=trust_pickle)
    if is_legacy(head):
        return read_legacy(path, trust_pickle=trust_pickle)
    if starts_pickle(path, head):
        return read_pickle(path, trust_pickle=trust_pickle)
    _refuse_kind(path, head)


def _head(path: Path) -> bytes:
    """Return the first bytes of an existing, non-empty file."""
    if path.is_dir():
        raise CheckpointError(f"{path}: is a directory; give the checkpoint file inside it")
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; check the path of the checkpoint")
    if not path.is_file():
        raise CheckpointError(f"{path}: is not a regular file; give a file of torch.save")
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise CheckpointError(f"{path}: the file is empty; {DOWNLOAD}")
    return head


def _refuse_kind(path: Path, head: bytes) -> NoReturn:
    """Say what a file is that holds no checkpoint."""
    kind = next((text for magic, text in _LOOKS_LIKE if head.lstrip().startswith(magic)), None)
    if kind is None and tarfile.is_tarfile(path):
        kind = "a tar archive; unpack it first, or save it again with a current torch"
    if kind is None:
        kind = "text" if _is_text(head) else "data of an unknown kind"
    raise CheckpointError(f"{path}: not a checkpoint: it looks like {kind}")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8") if error.start > len(head) - 4 else "\0"
    return all(letter.isprintable() or letter.isspace() for letter in text)
