"""What a pickle may rebuild without `--trust-pickle`, and the functions that rebuild it.

Allowed are NumPy's plain arrays, scalars and dtypes, `argparse.Namespace`, `OrderedDict` and the
built-in types that older protocols name. None of the real functions is handed out: NumPy's
`_reconstruct` allocates any shape, `bytearray` any length, and what a class or a function of Python
is given as state changes it for the whole process. A stand-in takes only what a pickler writes.
"""

import argparse
import math
import pickle
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np

_DTYPE = re.compile(r"[<>=|]?([biufc]\d{1,2}|O\d?|[SU]\d{1,9})")
_PLAIN = (str, bytes, int, float, complex, type(None))


def _refuse(what: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"{what} that no pickler writes")


class Call:
    """A function that a pickle can call but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        """Call the function."""
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        """Refuse any state."""
        raise _refuse("a function has a state")


class Namespace(argparse.Namespace):
    """An `argparse.Namespace`; being a class with `__setstate__`, it takes no state itself."""

    def __setstate__(self, state: object) -> None:
        """Take the attributes."""
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise _refuse("a Namespace has a state")
        vars(self).update(state)


class Dtype:
    """What pickles name `numpy.dtype`: a plain one, whose byte order comes as its state."""

    __slots__ = ("plain",)

    def __init__(self, code: object, align: object = 0, copy: object = 0) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise pickle.UnpicklingError("an array has a structured or unknown dtype")
        self.plain: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        """Take the byte order."""
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise _refuse("a dtype has a state")
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array has a structured dtype")
        self.plain = self.plain.newbyteorder(state[1])


class Array(np.ndarray[Any, np.dtype[Any]]):
    """What pickles name `numpy.ndarray`: allocates nothing, and takes only a state that fits."""

    def __new__(cls, *arguments: object) -> "Array":
        """Refuse: the array would be as large as its first argument says."""
        raise _refuse("an array is made in a way")

    def __setstate__(self, state: object) -> None:
        """Take shape, dtype and values."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise _refuse("an array has a state")
        shape, dtype, fortran, data = state[-4:]
        count = math.prod(_sides(shape))
        plain = _plain(dtype)
        if isinstance(data, str):  # Python 2's strings, read as latin-1
            data = data.encode("latin-1")
        if plain.hasobject:
            fits = isinstance(data, list) and len(data) == count
            if fits and any(isinstance(item, np.ndarray) for item in data):
                raise _refuse("an array of objects holds arrays in a way")
        else:
            fits = isinstance(data, (bytes, bytearray)) and len(data) == count * plain.itemsize
            fits = fits and count <= len(data)  # many elements of no size
        if not fits:
            raise pickle.UnpicklingError("an array's shape does not fit its values")
        checked: Any = (1, shape, plain, bool(fortran), data)
        super().__setstate__(checked)


def _sides(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise _refuse("an array has a shape")
    return shape


def _plain(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, Dtype):
        raise _refuse("an array has a dtype")
    return dtype.plain


def _reconstruct(kind: object, shape: object, code: object) -> Array:
    """Stand in for `numpy._core.multiarray._reconstruct`: the state comes later."""
    if kind is not Array or shape != (0,):
        raise _refuse("an array is made in a way")
    return np.ndarray.__new__(Array, (0,), np.int8)


def _scalar(dtype: object, data: object = b"") -> object:
    """Stand in for `numpy._core.multiarray.scalar`."""
    plain = _plain(dtype)
    if isinstance(data, str):
        data = data.encode("latin-1")
    if plain.hasobject or not isinstance(data, bytes) or len(data) != plain.itemsize:
        raise _refuse("a NumPy scalar has a value")
    return np.frombuffer(data, plain)[0] if data else np.zeros((), plain)[()]


def _frombuffer(
    data: object, dtype: object, shape: object, order: object, axes: object = None
) -> Array:
    """Stand in for `numpy._core.numeric._frombuffer` (pickles of protocol 5)."""
    plain = _plain(dtype)
    sides = _sides(shape)
    if (
        plain.hasobject
        or not isinstance(data, (bytes, bytearray))
        or len(data) != math.prod(sides) * plain.itemsize
        or math.prod(sides) > len(data)
    ):
        raise pickle.UnpicklingError("an array's shape does not fit its values")
    flat = np.frombuffer(data, plain) if data else np.empty(0, plain)
    if order == "K" and axes is not None:
        return flat.reshape(sides).transpose(_sides(axes)).view(Array)
    return flat.reshape(sides, order="F" if order == "F" else "C").view(Array)


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, with which older protocols write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _refuse("bytes are made in a way")
    return text.encode("latin-1")


def _bytearray(data: object = b"", encoding: object = "latin-1") -> bytearray:
    if isinstance(data, str):
        data = _encode(data, encoding)
    if not isinstance(data, (bytes, bytearray)):
        raise _refuse("a bytearray is made in a way")
    return bytearray(data)


def _bytes(data: object = b"", encoding: object = "latin-1") -> bytes:
    return bytes(_bytearray(data, encoding))


def _members(items: object) -> Iterable[Any]:
    if not isinstance(items, (list, tuple)) or not all(type(item) in _HASHABLE for item in items):
        raise _refuse("a set has members")
    return items


_HASHABLE: Final = frozenset({*_PLAIN, bool})


def _set(items: object = ()) -> set[Any]:
    return set(_members(items))


def _frozenset(items: object = ()) -> frozenset[Any]:
    return frozenset(_members(items))


def _complex(real: object, imaginary: object = 0.0) -> complex:
    if not isinstance(real, (int, float)) or not isinstance(imaginary, (int, float)):
        raise _refuse("a complex number has parts")
    return complex(real, imaginary)


def _ordered_dict(items: object = ()) -> OrderedDict[Any, Any]:
    """Stand in for `OrderedDict`; Python 2 writes its pairs as lists."""
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and type(pair[0]) in _HASHABLE
        for pair in items
    ):
        raise _refuse("an OrderedDict has items")
    return OrderedDict(items)


def _counter(items: object = None) -> Counter[Any]:
    if items is not None and not isinstance(items, Mapping):
        raise _refuse("a Counter has items")
    return Counter(items)


class _Object:
    """What pickles of protocol 0 and 1 name `object`, the base of a Namespace."""

    __slots__ = ()


def _reconstructor(kind: object, base: object, state: object) -> Namespace:
    """Stand in for `copyreg._reconstructor`, with which protocols 0 and 1 make a Namespace."""
    if kind is not Namespace or not isinstance(base, _Object) or state is not None:
        raise _refuse("an object is made in a way")
    return Namespace()


_NUMPY: dict[str, Any] = {"numpy.ndarray": Array, "numpy.dtype": Dtype} | {
    f"numpy.{core}.{name}": Call(function)
    for core in ("core", "_core")  # NumPy 1 and 2
    for name, function in (
        ("multiarray._reconstruct", _reconstruct),
        ("multiarray.scalar", _scalar),
        ("numeric._frombuffer", _frombuffer),
    )
}

_BUILT_IN: dict[str, Any] = {
    f"{module}.{name}": Call(function)
    for module in ("builtins", "__builtin__")  # Python 3 and 2
    for name, function in (
        ("set", _set),
        ("frozenset", _frozenset),
        ("bytearray", _bytearray),
        ("bytes", _bytes),
        ("complex", _complex),
    )
}

STAND_INS: Final[Mapping[str, Any]] = {
    **_NUMPY,
    **_BUILT_IN,
    "argparse.Namespace": Namespace,
    "collections.OrderedDict": Call(_ordered_dict),
    "collections.Counter": Call(_counter),
    "_codecs.encode": Call(_encode),
    "copyreg._reconstructor": Call(_reconstructor),
    "copy_reg._reconstructor": Call(_reconstructor),
    "builtins.object": _Object(),
    "__builtin__.object": _Object(),
}
"""Every global that any pickle may name -> what it is given instead."""
