"""Follow a pickle's instructions without carrying any of them out.

The unpicklers of Python and of torch trust a pickle's numbers: a place in the memo, the length of a
string, how deep tuples nest or how often one repeats inside another. Five bytes can thus ask for
64 GB, a megabyte can overflow the C stack, and a kilobyte can keep `hash` busy for ever. The scan
refuses such pickles beforehand, tells a truncated one from a damaged one, and names every global.
"""

import mmap
import pickletools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_INSTRUCTIONS = 5_000_000
"""An object takes at most some 200 bytes, so what is built stays below about a gigabyte besides the
strings and arrays that lie in the file; a training checkpoint of a large ViT has 100,000."""

MAX_NESTING = 1000
"""Levels; hashing tuples overflows the C stack somewhere above 100,000."""

MAX_HASHED = 50_000_000
"""Values looked at when all keys are hashed: a few seconds."""

_MEMO_MARGIN = 16
_NAME = re.compile(r"[\w.<>]+")
_LONGEST_NAME = 300
_LONGEST_NUMBER = 4096  # bytes; Python hashes a number anew each time

_KEYS = frozenset({"SETITEM", "SETITEMS", "ADDITEMS", "DICT"})
_CONTAINERS = _KEYS | {"APPEND", "APPENDS", "LIST"}
_CALLS = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD"})
_HASHING = _KEYS | _CALLS | {"FROZENSET"}


class PickleScanError(Exception):
    """A pickle that must not be unpickled. The message is one line without the file's name."""


class TruncatedPickleError(PickleScanError):
    """A pickle that stops before its end."""


@dataclass(frozen=True)
class Scan:
    """What a pickle would do.

    Attributes:
        end: offset of the first byte after it.
        names: the globals it names, `module.name`, as written.
        instructions: how many it has.
    """

    end: int
    names: frozenset[str]
    instructions: int


class _Value(NamedTuple):
    """A value on the unpickler's stack, as far as the scan follows it."""

    depth: int = 0  # levels of values inside
    weight: int = 1  # values looked at when it is hashed; lists and dicts cannot be
    text: str = ""  # of a short string


class _Instruction(NamedTuple):
    name: str
    size: int  # bytes of the argument; negative: one of pickletools' codes
    lines: int  # of an argument that ends with a newline
    takes_mark: bool
    takes: int  # values, below the mark where there is one
    leaves: int


def _instruction(info: pickletools.OpcodeInfo) -> _Instruction:
    before = list(info.stack_before)
    takes_mark = pickletools.markobject in before
    size = info.arg.n if info.arg is not None else 0
    lines = 2 if info.arg is pickletools.stringnl_noescape_pair else 1
    takes = before.index(pickletools.markobject) if takes_mark else len(before)
    return _Instruction(info.name, size, lines, takes_mark, takes, len(info.stack_after))


_INSTRUCTIONS = {ord(info.code): _instruction(info) for info in pickletools.opcodes}

_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
"""Bytes of the length that stands before an argument."""

_ATOM = _Value()
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_TEXTS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}) | frozenset(
    {"STRING", "BINSTRING", "SHORT_BINSTRING"}
)


def scan_pickle(data: bytes | mmap.mmap, start: int = 0) -> Scan:
    """Follow one pickle from `start` to its end.

    Raises:
        TruncatedPickleError: the data ends before the pickle does.
        PickleScanError: the data is no pickle, or its pickle asks for absurd work or memory.
    """
    return _Scanner(data, start).run()


class _Scanner:
    def __init__(self, data: bytes | mmap.mmap, start: int) -> None:
        self.data = data
        self.position = start
        self.end = len(data)
        self.stack: list[_Value] = []
        self.below_marks: list[list[_Value]] = []
        self.memo: dict[int, _Value] = {}
        self.names: set[str] = set()
        self.count = 0
        self.hashed = 0

    def run(self) -> Scan:
        while True:
            if self.position >= self.end:
                raise TruncatedPickleError("the pickle is truncated")
            instruction = _INSTRUCTIONS.get(self.data[self.position])
            if instruction is None:
                raise PickleScanError("the data is no pickle, or a damaged one")
            self.position += 1
            self.count += 1
            if self.count > MAX_INSTRUCTIONS:
                raise PickleScanError(
                    f"the pickle has more than {MAX_INSTRUCTIONS:,} instructions, a checkpoint has "
                    "far fewer"
                )
            argument = self.argument(instruction)
            if instruction.name == "STOP":
                self.pop(1)
                return Scan(self.position, frozenset(self.names), self.count)
            self.follow(instruction, argument)

    def argument(self, instruction: _Instruction) -> bytes:
        """Return an instruction's argument, empty where it is long, and step over it."""
        first = self.position
        if instruction.size == pickletools.UP_TO_NEWLINE:
            for _ in range(instruction.lines):
                newline = self.data.find(b"\n", self.position)
                if newline < 0:
                    raise TruncatedPickleError("the pickle is truncated")
                self.position = newline + 1
        elif instruction.size < 0:
            first += _LENGTHS[instruction.size]
            self.position = first + int.from_bytes(self.data[self.position : first], "little")
        else:
            self.position += instruction.size
        if instruction.name == "FRAME":  # it only announces how many bytes follow
            length = int.from_bytes(self.data[first : self.position], "little")
            self.check_inside(self.position + length)
        self.check_inside(self.position)
        if instruction.name == "LONG4" and self.position - first > _LONGEST_NUMBER:
            raise PickleScanError("the pickle has a number of absurd length")
        short = self.position - first <= 2 * _LONGEST_NAME
        return self.data[first : self.position] if short else b""

    def check_inside(self, position: int) -> None:
        if position > self.end:
            raise TruncatedPickleError("the pickle is truncated")

    def follow(self, instruction: _Instruction, argument: bytes) -> None:
        """Do to the stack and the memo what an instruction does to them."""
        name = instruction.name
        if name in _PUTS:
            self.put(name, argument)
        elif name in _GETS:
            self.get(name, argument)
        elif name == "MARK":
            self.below_marks.append(self.stack)
            self.stack = []
        elif name == "DUP":
            self.stack.append(self.top())
        elif name == "POP" and not self.stack and self.below_marks:
            self.stack = self.below_marks.pop()
        elif name in ("GLOBAL", "INST"):
            self.name_global(argument.decode("utf-8", "replace").split("\n")[:2])
            if name == "INST":
                self.make(instruction)
            else:
                self.stack.append(_ATOM)
        elif name == "STACK_GLOBAL":
            self.name_global([value.text for value in self.pop(2)])
            self.stack.append(_ATOM)
        elif name in _TEXTS:
            short = len(argument) <= _LONGEST_NAME
            text = argument.decode("utf-8", "replace").rstrip("\n") if short else ""
            self.stack.append(_Value(text=text))
        elif not instruction.takes and not instruction.takes_mark:
            self.stack.extend([_ATOM] * instruction.leaves)
        else:
            self.make(instruction)

    def make(self, instruction: _Instruction) -> None:
        """Take values off the stack and leave what is made of them."""
        taken: Sequence[_Value] = ()
        if instruction.takes_mark:
            if not self.below_marks:
                raise PickleScanError("the data is no pickle, or a damaged one")
            taken = self.stack
            self.stack = self.below_marks.pop()
        into = self.pop(instruction.takes)
        if not instruction.leaves:
            return
        depth = 1 + max((value.depth for value in (*into, *taken)), default=0)
        if depth > MAX_NESTING:
            raise PickleScanError(
                f"the pickle nests values more than {MAX_NESTING} deep, a checkpoint does not"
            )
        weight = 1 + sum(value.weight for value in into) + sum(value.weight for value in taken)
        if instruction.name in _HASHING:
            self.hashed += weight
            if self.hashed > MAX_HASHED:
                raise PickleScanError("the pickle repeats values inside values without end")
        if instruction.name in _CONTAINERS:
            weight = 1
        self.stack.append(_Value(depth, min(weight, MAX_HASHED + 1)))

    def pop(self, count: int) -> list[_Value]:
        if count > len(self.stack):
            raise PickleScanError("the data is no pickle, or a damaged one")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def top(self) -> _Value:
        if not self.stack:
            raise PickleScanError("the data is no pickle, or a damaged one")
        return self.stack[-1]

    def place(self, name: str, argument: bytes) -> int:
        """Return the place in the memo that an instruction means."""
        if name == "MEMOIZE":
            return len(self.memo)
        if name not in ("GET", "PUT"):
            return int.from_bytes(argument, "little")
        digits = argument.strip()
        if not (digits.isdigit() and len(digits) < 20):
            raise PickleScanError("the data is no pickle, or a damaged one")
        return int(digits)

    def put(self, name: str, argument: bytes) -> None:
        place = self.place(name, argument)
        if place > self.count + _MEMO_MARGIN:  # the unpickler would make room for all before it
            raise PickleScanError(f"the pickle puts its {self.count}th value at place {place}")
        self.memo[place] = self.top()

    def get(self, name: str, argument: bytes) -> None:
        value = self.memo.get(self.place(name, argument))
        if value is None:
            raise PickleScanError("the data is no pickle, or a damaged one")
        self.stack.append(value)

    def name_global(self, parts: list[str]) -> None:
        name = ".".join(parts)
        if not all(_NAME.fullmatch(part) and len(part) <= _LONGEST_NAME for part in parts):
            raise PickleScanError("the pickle names a global that can be no name")
        self.names.add(name)
