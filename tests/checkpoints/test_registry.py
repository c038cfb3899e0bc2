import pytest

from vicregl_bench.checkpoints import find_reader, method_names
from vicregl_bench.errors import CheckpointError


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(
        CheckpointError, match=r"known: own, vicregl, vicreg, .*, torchvision, bare"
    ):
        find_reader("vicregx")


def test_methods_are_found_by_name() -> None:
    assert [find_reader(name).card.method for name in method_names()] == list(method_names())
