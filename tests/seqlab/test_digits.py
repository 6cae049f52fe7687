"""Metrics as people read them."""

import math

import pytest

from seqlab.digits import written


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5000"), (0.0, "0.0000"), (111.35064, "111.3506"), (2.274e-5, "2.27e-05"), (-0.0004, "-4.00e-04")],
)
def test_small_ones_are_not_hidden(value, text):
    assert written(value) == text


def test_signs_and_what_is_no_number():
    assert written(0.25, "+") == "+0.2500"
    assert written(math.nan) == "nan"
    assert written(math.inf) == "inf"
