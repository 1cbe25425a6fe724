"""Configurations that check themselves: what each rule refuses, and what all of them do."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translimit.core import ConfigError, config
from translimit.experiments.checked import (
    LARGEST,
    BranchWeight,
    CheckedConfig,
    Count,
    Decreasing,
    Distinct,
    Doubling,
    Entries,
    Exponent,
    Increasing,
    IncreasingSizes,
    Momentum,
    MultipleOf,
    OneOf,
    OneOver,
    Positive,
    Positives,
    Sizes,
    Step,
    Within,
)

pytestmark = pytest.mark.usefixtures("as_user")


@dataclass(frozen=True)
class Inner(CheckedConfig):
    base: tuple[Count, Count] = (1, 2)


@dataclass(frozen=True)
class Example(CheckedConfig):
    count: Count = 1
    integer: int = 0
    number: float = 0.0
    positive: Positive = 1.0
    momentum: Momentum = 0.0
    weight: BranchWeight = 1.0
    exponent: Exponent = 1.0
    step: Step = 0.1
    even: Annotated[int, MultipleOf(2)] = 2
    name: Annotated[str, OneOf(("softmax", "linear"))] = "softmax"
    sizes: Sizes = (2, 1)
    rising: IncreasingSizes = (1, 2)
    falling: Annotated[tuple[float, ...], Decreasing()] = (2.0, 1.0)
    doubled: Annotated[tuple[int, ...], Doubling(2)] = (1, 2)
    thirds: Annotated[tuple[Step, ...], OneOver(), Distinct()] = (1 / 3,)
    few: Annotated[tuple[int, ...], Entries(0, 2)] = ()
    pair: Annotated[tuple[int, int], Within(-5, 5), Increasing()] = (0, 1)
    numbers: Positives = (1.0,)
    kinds: tuple[Literal["a", "b"], ...] = ("a",)
    inner: Inner = Inner()


REFUSED = [
    ("count", 0, "pass at least 1"),
    ("count", 1.0, "pass an integer"),
    ("count", True, "pass an integer"),
    ("count", LARGEST + 1, f"pass at most {LARGEST}"),
    ("integer", -LARGEST - 1, f"pass at most {LARGEST}"),
    ("number", float("nan"), "pass a finite number"),
    ("number", float("inf"), "pass a finite number"),
    ("number", 10**400, "pass a number"),
    ("number", None, "pass a number"),
    ("positive", 0.0, "pass at least 1e-12 and at most 1e+12"),
    ("momentum", 1, "pass at least 0 and less than 1"),
    ("momentum", -0.1, "pass at least 0 and less than 1"),
    ("weight", 0.0, "pass more than 0 and at most 1"),
    ("exponent", 0.4, "pass at least 0.5 and at most 1"),
    ("step", 1e-300, "pass at least 1e-06 and at most 1"),
    ("even", 3, "pass a multiple of 2"),
    ("name", "softmx", "did you mean 'softmax'?"),
    ("sizes", (1, 1), "pass each value once"),
    ("sizes", (1, 0), "pass at least 1"),
    ("sizes", (), "pass at least one entry"),
    ("rising", (2, 2), "pass each larger than the one before"),
    ("falling", (1.0, 2.0), "pass each smaller than the one before"),
    ("doubled", (1,), "pass at least 2, each twice the one before"),
    ("doubled", (1, 3), "pass at least 2, each twice the one before"),
    ("thirds", (0.3,), "pass one over an integer"),
    ("few", (1, 2, 3), "pass at least 0 and at most 2"),
    ("pair", (0, 6), "pass at least -5 and at most 5"),
    ("pair", (0,), "pass length 2"),
    ("numbers", (1.0, float("inf")), "pass a finite number"),
    ("kinds", ("c",), "pass one of 'a', 'b'"),
    ("inner", -1, "pass an object with the fields of Inner"),
]


@pytest.mark.parametrize(("field", "value", "remedy"), REFUSED)
def test_a_refusal_names_the_field_and_what_to_pass(field, value, remedy):
    """Made in Python, changed, and read from a file alike."""
    for attempt in (
        lambda: Example(**{field: value}),
        lambda: replace(Example(), **{field: value}),
        lambda: config.from_json(Example, {field: value}),
    ):
        with pytest.raises(ConfigError) as refusal:
            attempt()
        assert refusal.value.argument == field
        assert remedy in str(refusal.value)


def test_a_field_of_a_nested_configuration_is_named():
    with pytest.raises(ConfigError, match=r"^base: got \(0, 2\); pass at least 1$"):
        config.from_json(Example, {"inner": {"base": [0, 2]}})


def test_values_take_their_annotated_types():
    made = Example(number=1, falling=[3, 1], numbers=(2,))
    assert (made.number, made.falling, made.numbers) == (1.0, (3.0, 1.0), (2.0,))
    assert isinstance(made.number, float)
    assert config.from_json(Example, config.to_json(made)) == made


@given(st.text(), st.sampled_from(sorted(Example.__dataclass_fields__)))
def test_text_of_the_command_line_is_understood_or_refused(text, field):
    """No text ends in another error, and what is understood is a configuration."""
    try:
        made = config.replace(Example(), {field: text})
    except ConfigError:
        return
    assert config.from_json(Example, config.to_json(made)) == made


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000, "-" * 10, "NaN", "Infinity"])
def test_text_that_no_parser_bears_is_refused(text, tmp_path):
    """Too many digits, too deep, or no number: on the command line and in files."""
    with pytest.raises(ConfigError):
        config.replace(Example(), {"count": text})
    for suffix, written in ((".json", f'{{"count": {text}}}'), (".toml", f"count = {text}")):
        path = tmp_path / f"config{suffix}"
        path.write_text(written)
        with pytest.raises(ConfigError):
            config.from_json(Example, config.read_file(path))
