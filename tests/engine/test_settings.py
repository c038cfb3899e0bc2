"""Sections of settings: lists without repetition."""

from typing import Annotated

import pytest
from pydantic import Field

from vicregl_bench.engine.settings import Section, build_settings, distinct
from vicregl_bench.errors import ConfigError


class Grid(Section):
    ks: Annotated[tuple[int, ...], Field(min_length=1), distinct("a k stands twice")] | None = None


class Whole(Section):
    knn: Grid


def test_a_value_that_stands_twice_is_refused_by_its_key_in_the_words_given() -> None:
    with pytest.raises(ConfigError) as refused:
        build_settings(Whole, {"knn.ks": [3, 1, 3]})
    assert str(refused.value) == "setting knn.ks = [3, 1, 3] is impossible: a k stands twice"


def test_other_lists_stay_as_they_are() -> None:
    assert build_settings(Whole, {"knn.ks": [3, 1]}).knn.ks == (3, 1)
    assert build_settings(Whole, {"knn.ks": None}).knn.ks is None
    with pytest.raises(ConfigError, match="it needs at least one value"):
        build_settings(Whole, {"knn.ks": []})
