"""Formatting of metrics."""

import math

import pytest

from seqlab.io.formatting import format_metric


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5000"), (0.0, "0.0000"), (111.35064, "111.3506"), (2.274e-5, "2.27e-05"), (-0.0004, "-4.00e-04")],
)
def test_small_values_are_not_shown_as_zero(value, text):
    assert format_metric(value) == text


def test_signs_nan_and_infinity():
    assert format_metric(0.25, "+") == "+0.2500"
    assert format_metric(math.nan) == "nan"
    assert format_metric(math.inf) == "inf"
