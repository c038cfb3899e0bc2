import pytest
import torch
from torch import Tensor

from tests.checkpoints.names.peers import assert_same, canonical_states, in_a_checkpoint
from vicregl_bench.checkpoints.names import DIALECTS, Dialect, find_dialect
from vicregl_bench.errors import CheckpointError

STATES = canonical_states()

_CANNOT = {
    ("torchvision", "convnext plain"),
    ("torchvision", "vit dinov2"),
    ("openmmlab", "vit dinov2"),
}
WRITTEN = [
    (dialect, name)
    for dialect in DIALECTS
    for name in STATES
    if dialect.write
    and name.partition(" ")[0] == dialect.family
    and (dialect.name, name) not in _CANNOT
]


def _held(dialect: Dialect, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state dict that a dialect has places for."""
    if dialect.name == "detectron2":
        return {key: value for key, value in state.items() if "num_batches" not in key}
    return state


def _ids(value: object) -> str:
    return f"{value.family} {value.name}" if isinstance(value, Dialect) else str(value)


@pytest.mark.parametrize(("dialect", "name"), WRITTEN, ids=_ids)
def test_writing_and_reading_gives_the_same_bits_back(dialect: Dialect, name: str) -> None:
    assert dialect.write is not None
    written = dialect.write(STATES[name])
    read = dialect.read(written)
    assert_same(read, _held(dialect, STATES[name]))
    assert read is not None
    assert_same(dialect.write(read), written)


@pytest.mark.parametrize(("dialect", "name"), WRITTEN, ids=_ids)
def test_prefixes_and_other_modules_are_kept(dialect: Dialect, name: str) -> None:
    assert dialect.write is not None
    read = dialect.read(in_a_checkpoint(dialect.write(STATES[name])))
    assert_same(read, in_a_checkpoint(_held(dialect, STATES[name])))


@pytest.mark.parametrize(("dialect", "name"), WRITTEN, ids=_ids)
def test_two_networks_in_a_container_are_both_read(dialect: Dialect, name: str) -> None:
    assert dialect.write is not None
    state = _held(dialect, STATES[name])
    written = dialect.write(STATES[name])
    both = {**written, **{f"teacher.{key}": value + 1 for key, value in written.items()}}
    read = dialect.read(both)
    assert read is not None
    assert set(read) == set(state) | {f"teacher.{key}" for key in state}
    assert torch.equal(read["teacher." + next(iter(state))], state[next(iter(state))] + 1)


@pytest.mark.parametrize("dialect", DIALECTS, ids=_ids)
@pytest.mark.parametrize("name", STATES)
def test_canonical_names_are_no_dialect(dialect: Dialect, name: str) -> None:
    assert dialect.read(STATES[name]) is None
    assert dialect.read(in_a_checkpoint(STATES[name])) is None
    assert dialect.read({}) is None


@pytest.mark.parametrize(("dialect", "name"), WRITTEN, ids=_ids)
def test_a_dialect_is_told_from_all_others(dialect: Dialect, name: str) -> None:
    assert dialect.write is not None
    written = in_a_checkpoint(dialect.write(STATES[name]))
    reading = [other for other in DIALECTS if other.read(written) is not None]
    assert reading == [dialect]


def test_unchanged_tensors_are_handed_through_as_they_are() -> None:
    dialect = find_dialect("torchvision", "convnext")
    assert dialect.write is not None
    written = dialect.write(STATES["convnext"])
    read = dialect.read(written)
    assert read is not None
    assert read["stem.0.weight"] is written["features.0.0.weight"]


def test_a_container_with_the_canonical_key_too_is_left_alone() -> None:
    dialect = find_dialect("original", "convnext")
    assert dialect.write is not None
    written = dialect.write(STATES["convnext"])
    assert dialect.read({**written, "head.norm.weight": torch.zeros(32)}) is None


@pytest.mark.parametrize(("name", "family"), [("caffe2", "resnet"), ("original", "resnet")])
def test_unknown_dialects_are_an_error_that_names_the_known(name: str, family: str) -> None:
    with pytest.raises(CheckpointError, match="detectron2, lightly, haiku"):
        find_dialect(name, family)


def test_names_are_unique() -> None:
    names = [(dialect.family, dialect.name) for dialect in DIALECTS]
    assert len(set(names)) == len(names)
    assert all(find_dialect(name, family).family == family for family, name in names)
