"""Build what a pickle of `torch.save` describes, with descriptions for tensors and storages.

torch's safe loader runs nothing foreign, but believes every size: a storage of 10**13 bytes is
allocated before the file turns out to be short, a tensor may enlarge its storage, and a tensor or a
`bytearray` of any length may be made outright. The rehearsal does what the loader would do with
everything that occurs in a state dict, checks the sizes, and refuses the rest.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import torch

from vicregl_bench.checkpoints.files.stand_ins import STAND_INS, Call


@dataclass(frozen=True)
class Storage:
    """A storage as a pickle describes it.

    Attributes:
        key: its name in the file.
        nbytes: its size.
        dtype: of its elements.
    """

    key: str
    nbytes: int
    dtype: torch.dtype


class StorageKind:
    """A class of storages, e.g. `torch.FloatStorage`."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Tensor:
    """A tensor whose elements lie inside its storage."""

    __slots__ = ("expanded",)

    def __init__(self, *, expanded: bool) -> None:
        self.expanded = expanded  # more elements than its storage has

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a tensor has a state, as before torch 0.2")


class _Class:
    """A class that a pickle names but does not call."""

    __slots__ = ()


class Rehearsal(pickle.Unpickler):
    """Unpickle to descriptions.

    Args:
        stream: at the start of the pickle.
        find_storage: the storage that a persistent id means; raises `pickle.UnpicklingError` where
            it is not in the file.
    """

    def __init__(self, stream: BinaryIO, find_storage: Callable[[tuple[Any, ...]], Storage]):
        super().__init__(stream, encoding="latin1")
        self._find_storage = find_storage

    def find_class(self, module_name: str, global_name: str, /) -> object:
        """Return what a global is given, which `KNOWN` lists."""
        return KNOWN[f"{module_name}.{global_name}"]

    def persistent_load(self, pid: object) -> Storage:
        """Return the storage that an id means."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("a persistent id that names no storage")
        kind, key, _, numel = pid[1:5]
        if not isinstance(kind, StorageKind) or not isinstance(key, str) or not _is_size(numel):
            raise pickle.UnpicklingError("a persistent id that names no storage")
        return self._find_storage(pid)


def claimed_bytes(pid: tuple[Any, ...]) -> int:
    """Return the bytes that the storage of a persistent id claims."""
    size: int = pid[4] * pid[1].dtype.itemsize
    return size


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _sizes(values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not all(map(_is_size, values)):
        raise pickle.UnpicklingError("a tensor has a size or stride that is no number")
    return tuple(values)


def _view(
    storage: object, dtype: torch.dtype, offset: object, size: object, stride: object
) -> _Tensor:
    """Describe a tensor over a storage, whose elements must all lie inside it."""
    sides, steps = _sizes(size), _sizes(stride)
    if not isinstance(storage, Storage) or type(offset) is not int or len(sides) != len(steps):
        raise pickle.UnpicklingError("a tensor is made of something else than a storage")
    count = 1
    for side in sides:
        count *= side
    last = offset + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    if offset < 0 or (count and (last + 1) * dtype.itemsize > storage.nbytes):
        raise pickle.UnpicklingError(
            f"a tensor of {count:,} elements lies outside its storage of {storage.nbytes:,} bytes"
        )
    return _Tensor(expanded=count * dtype.itemsize > storage.nbytes)


def _rebuild_tensor(storage: object, offset: object, size: object, stride: object) -> _Tensor:
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor is made of something else than a storage")
    return _view(storage, storage.dtype, offset, size, stride)


def _rebuild_tensor_v2(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    metadata: object = None,
) -> _Tensor:
    return _rebuild_tensor(storage, offset, size, stride)


def _rebuild_tensor_v3(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> _Tensor:
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor has a dtype that is none")
    return _view(storage, dtype, offset, size, stride)


def _rebuild_parameter(data: object, *rest: object) -> _Tensor:
    if not isinstance(data, _Tensor):
        raise pickle.UnpicklingError("a parameter is made of something else than a tensor")
    return data


def _rebuild_from_type(function: object, kind: object, arguments: object, state: object) -> object:
    if not isinstance(function, Call) or not isinstance(arguments, tuple):
        raise pickle.UnpicklingError("a tensor is made in an unknown way")
    return function(*arguments)


def _rebuild_sparse(layout: object, data: object) -> _Tensor:
    parts = data if isinstance(data, tuple) else ()
    if not parts or any(isinstance(part, _Tensor) and part.expanded for part in parts):
        raise pickle.UnpicklingError("a sparse tensor is made of expanded views")
    return _Tensor(expanded=True)


def _rebuild_meta(dtype: object, size: object, stride: object, requires_grad: object) -> _Tensor:
    _sizes(size)
    _sizes(stride)
    return _Tensor(expanded=True)


def _name(*arguments: object) -> _Class:
    """Stand in for what makes a device or layout of a name."""
    if not all(isinstance(value, (str, int)) for value in arguments):
        raise pickle.UnpicklingError("a device or layout has a name that is none")
    return _Class()


_STORAGES: Final[Mapping[str, torch.dtype]] = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}

_TORCH: Final[Mapping[str, Any]] = {
    **{
        f"{module}.{name}Storage": StorageKind(dtype)
        for module in ("torch", "torch.cuda")
        for name, dtype in _STORAGES.items()
    },
    "torch.storage.UntypedStorage": StorageKind(torch.uint8),
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
    "torch.Tensor": _Class(),
    "torch.nn.parameter.Parameter": _Class(),
    "torch.Size": Call(_sizes),
    "torch.device": Call(_name),
    "torch.serialization._get_layout": Call(_name),
    "torch._utils._rebuild_tensor": Call(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": Call(_rebuild_tensor_v2),
    "torch._utils._rebuild_tensor_v3": Call(_rebuild_tensor_v3),
    "torch._utils._rebuild_parameter": Call(_rebuild_parameter),
    "torch._utils._rebuild_parameter_with_state": Call(_rebuild_parameter),
    "torch._utils._rebuild_sparse_tensor": Call(_rebuild_sparse),
    "torch._utils._rebuild_meta_tensor_no_storage": Call(_rebuild_meta),
    "torch._tensor._rebuild_from_type_v2": Call(_rebuild_from_type),
}

KNOWN: Final[Mapping[str, Any]] = {**STAND_INS, **_TORCH}
"""Every global that a file of `torch.save` may name -> what the rehearsal gives for it."""
