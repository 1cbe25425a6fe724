"""The one rule for errors in print: what one seed, an exact number and a bound look like."""

import ast
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import translimit
from translimit.core import ONE_SEED, ArgumentError, Estimate, standard_error, with_error

SOURCE = Path(translimit.__file__).parent
#: Where the sign of an error is written: the rule, and its typeset form.
WRITERS = {"core/estimates.py", "core/numbers.py"}


@pytest.mark.parametrize(
    ("value", "stderr", "bound", "said"),
    [
        (-0.512, 0.031, "", "-0.51 ± 0.03"),
        (-0.512, 0.0, "", "-0.51"),
        (-0.512, math.inf, "", f"-0.51 ({ONE_SEED})"),
        (-0.512, math.nan, "", "-0.51 (no error)"),
        (-0.512, 0.031, "at most", "at most -0.51"),
        (-0.512, math.nan, "at least", "at least -0.51"),
        (math.nan, 0.1, "", "not finite"),
        (2, 1, "", "2.00 ± 1.00"),
        (math.inf, math.inf, "at least", "not finite"),
    ],
)
def test_numbers_with_their_errors(value, stderr, bound, said):
    assert with_error(value, stderr, bound=bound) == said


def test_formats_of_value_and_error():
    assert with_error(0.5, 0.031, "+.2f") == "+0.50 ± 0.03"
    assert with_error(0.5, 0.031, ".0%") == "50% ± 3%"
    assert with_error(0.5, math.inf, unit="decades") == f"0.50 decades ({ONE_SEED})"
    assert with_error(0.5, 0.03, unit="decades") == "0.50 ± 0.03 decades"
    assert with_error(12.345, 0.0312, ".4g", ".1g") == "12.35 ± 0.03"


@given(st.floats(), st.floats(min_value=0), st.sampled_from(["", "at most", "at least"]))
def test_nothing_infinite_or_undefined_is_printed_as_a_number(value, stderr, bound):
    words = with_error(value, stderr, bound=bound).replace("(", " ").replace(")", " ").split()
    assert not {"inf", "-inf", "nan", "∞"} & set(words)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6))
def test_one_seed_has_no_error_and_several_have_theirs(values):
    estimate = Estimate.over_seeds(values)
    assert estimate.count == len(values)
    assert estimate.value == pytest.approx(np.mean(values), abs=1e-9)
    if len(values) == 1:
        assert math.isinf(estimate.stderr)
        assert ONE_SEED in str(estimate)
    else:
        assert estimate == Estimate.from_samples(np.array(values))
    rows = np.stack([values, values], axis=1)
    assert standard_error(rows).tolist() == [estimate.stderr] * 2
    assert standard_error(rows.T, axis=1).tolist() == [estimate.stderr] * 2


@pytest.mark.usefixtures("as_user")
def test_no_seed_is_refused():
    with pytest.raises(ArgumentError):
        Estimate.over_seeds([])


def ends_in_the_sign(part: ast.expr) -> bool:
    return isinstance(part, ast.Constant) and str(part.value).rstrip().endswith("±")


def test_errors_are_printed_in_one_place():
    """No other module of the package puts the sign of an error between two values."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = [node.values for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        pairs = [pair for values in parts for pair in pairwise(values)]
        if any(isinstance(b, ast.FormattedValue) and ends_in_the_sign(a) for a, b in pairs):
            found.add(path.relative_to(SOURCE).as_posix())
    assert found == WRITERS
