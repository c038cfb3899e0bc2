import math
from typing import Any

import pytest

from tests.made_record import make_record
from vicregl_bench.tables.facts import identity, weights_facts


@pytest.mark.parametrize(
    ("value", "alpha", "epochs"),
    [
        (1, 1.0, 1),
        (0.75, 0.75, 1),
        (math.nan, None, None),
        (math.inf, None, None),
        (True, None, None),
        ("300", None, None),
        (None, None, None),
    ],
)
def test_what_a_card_says_counts_where_it_is_a_number(
    value: Any, alpha: float | None, epochs: int | None
) -> None:
    record = make_record(checkpoint={"card": {"alpha": value, "epochs": value}})
    facts = weights_facts([record], None)[identity(record)]
    assert (facts.alpha, facts.epochs) == (alpha, epochs)
