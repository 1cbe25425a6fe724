"""Estimates are shown with the digits that their error allows, and read back as what they were."""

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from translimit.core import format_duration, format_estimate, format_number

SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def spaced(text: str) -> str:
    """The text with ordinary spaces."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def read(text: str) -> float:
    """The number that a reader sees."""
    text = spaced(text).replace("\N{NARROW NO-BREAK SPACE}", "").replace("\N{MINUS SIGN}", "-")
    mantissa, _, power = text.partition(" × 10")
    return float(mantissa) * 10.0 ** int(power.translate(SUPERSCRIPTS) or 0)


def read_estimate(text: str) -> tuple[float, float, int, int]:
    """Value, error, and the decimals of each."""
    match = re.fullmatch(r"\(?([^±()]+?) ± ([^±()]+?)\)?( × 10\S+)?", spaced(text))
    assert match, text
    value, error, power = match[1], match[2], match[3] or ""
    decimals = [len(part.partition(".")[2]) for part in (value, error)]
    return read(value + power), read(error + power), decimals[0], decimals[1]


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.71418, 0.00031, "0.7142 ± 0.0003"),
        (0.71418, 0.00014, "0.71418 ± 0.00014"),  # a leading 1 keeps a second digit
        (0.71418, 0.0096, "0.714 ± 0.010"),  # rounding up does not cost the digit
        (-0.5004, 0.02, "−0.50 ± 0.02"),
        (-0.0004, 0.02, "0.00 ± 0.02"),  # no minus zero
        (12345.6, 12.3, "12\N{NARROW NO-BREAK SPACE}346 ± 12"),
        (12345.6, 67.0, "(1.235 ± 0.007) × 10⁴"),  # no zeros that were not measured
        (3.21e-7, 4.4e-9, "(3.21 ± 0.04) × 10⁻⁷"),
        (0.0, 3e-9, "(0 ± 3) × 10⁻⁹"),
        (1.5, 0.0, "1.5"),
        (math.nan, 0.1, "NaN"),
        (1.0, math.inf, "1 (one seed: no error)"),
    ],
)
def test_estimate_has_the_digits_of_its_error(value, stderr, text):
    assert spaced(format_estimate(value, stderr)) == text


@given(
    st.floats(-1e12, 1e12, allow_nan=False),
    st.floats(1e-12, 1e12, exclude_min=True, allow_nan=False),
)
@example(10_000.0, 1.0)
def test_estimate_reads_back_within_a_fraction_of_its_error(value, stderr):
    shown, error, decimals, error_decimals = read_estimate(format_estimate(value, stderr))
    assert abs(shown - value) <= 0.5001 * stderr + 1e-12 * abs(value)
    assert abs(error - stderr) <= 0.34 * stderr
    assert decimals == error_decimals


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (200_000, "200\N{NARROW NO-BREAK SPACE}000"),
        (1024, "1024"),
        (-1.5, "−1.5"),
        (1 / 3, "0.333333"),
        (0.9999999, "1"),
        (1.5e-5, "1.5 × 10⁻⁵"),
        (999999.9, "1 × 10⁶"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "NaN"),
    ],
)
def test_number(value, text):
    assert spaced(format_number(value)) == text


@given(st.floats(-1e300, 1e300), st.integers(1, 12))
def test_number_reads_back_to_its_digits(value, digits):
    assert read(format_number(value, digits)) == pytest.approx(
        value, rel=0.51 * 10.0 ** (1 - digits), abs=1e-320
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (41.4, "41 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_duration(seconds, text):
    assert format_duration(seconds) == text
