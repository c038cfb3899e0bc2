"""Read safetensors files: a JSON header and the tensors' bytes, nothing that could be run."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from vicregl_bench.checkpoints.files.pickle_file import DOWNLOAD, one_line
from vicregl_bench.errors import CheckpointError

MAX_HEADER = 1 << 25
"""Bytes; the header of a ViT-g takes 100,000. The library itself stops at 100 MB."""

_LENGTH = 8
_PLAUSIBLE = 1 << 48


def is_safetensors(head: bytes) -> bool:
    """Whether a file starts like one: the header's length in eight bytes, then the header."""
    return head[_LENGTH : _LENGTH + 1] == b"{" and int.from_bytes(head[:_LENGTH], "little") < (
        _PLAUSIBLE
    )


def read_safetensors(path: Path) -> dict[str, object]:
    """Read a file's tensors on the CPU, mapped, and its metadata as `__metadata__` if it has any.

    Raises:
        CheckpointError: the file is truncated, or its header is absurd or does not fit its bytes.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
        size = stream.seek(0, 2)
    if length > MAX_HEADER:
        raise CheckpointError(
            f"{path}: not a checkpoint: a safetensors file whose header claims {length:,} bytes, "
            f"more than {MAX_HEADER:,}; {DOWNLOAD}"
        )
    if length > size - _LENGTH:
        raise CheckpointError(
            f"{path}: the file is truncated, its safetensors header alone takes {length:,} bytes; "
            f"{DOWNLOAD}"
        )
    try:
        with safe_open(str(path), framework="pt", device="cpu") as opened:
            metadata = opened.metadata()
            keys: list[str] = opened.keys()
            loaded: dict[str, object] = {key: opened.get_tensor(key) for key in keys}
    except SafetensorError as error:
        reason = one_line(error).removeprefix("Error while deserializing header: ")
        if "not fully covered" in reason or "Incomplete" in reason:
            reason = "its tensors need another number of bytes than it has: truncated?"
        raise CheckpointError(
            f"{path}: not a safetensors file that can be read ({reason}); {DOWNLOAD}"
        ) from error
    except Exception as error:  # a dtype that this torch or NumPy does not know
        raise CheckpointError(
            f"{path}: a tensor of the safetensors file cannot be made ({one_line(error)}); save "
            "the weights as float32"
        ) from error
    return loaded | {"__metadata__": metadata} if metadata else loaded
