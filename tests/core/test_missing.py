"""Construction names the argument that is missing, and what it stands for."""

import copy
import pickle
from dataclasses import dataclass, replace

import pytest

from translimit.core import ArgumentTypeError, Record, solve, telling
from translimit.core.missing import described, refusal
from translimit.describe import Size
from translimit.limits.dmft import CausalSampling, best_rate
from translimit.limits.homogenized import classify, collapse_depth
from translimit.limits.meanfield import GaussianFlow
from translimit.predict import predict
from translimit.scaling import rules_for


@pytest.mark.parametrize(
    ("build", "argument", "remedy"),
    [
        (lambda: GaussianFlow(), "attention", "pass attention=..., "),
        (lambda: Size(4, 2, 1), "arguments", "pass them by name: head_dim, heads"),
        (lambda: Size(head_dim=4, heads=2), "layers", "pass layers=..., "),
        (lambda: GaussianFlow(covv=1.0), "covv", "did you mean 'cov'"),
        (lambda: CausalSampling(headz=3), "headz", "did you mean 'heads'"),
        (lambda: predict(), "source", "pass source=..., a model's `config.json`"),
        (lambda: rules_for("gpt2"), "target", "pass target=..., "),
        (lambda: classify(), "law", "pass law=..., "),
        (lambda: best_rate(), "problem", "pass problem=..., the training"),
    ],
)
def test_the_argument_is_named_with_its_meaning(build, argument, remedy):
    with pytest.raises(ArgumentTypeError, match=remedy) as caught:
        build()
    assert caught.value.argument == argument
    assert isinstance(caught.value, TypeError)


@dataclass(frozen=True)
class Pair(Record):
    """Two numbers.

    Attributes:
        first: the number that comes first, in a sentence
            of two lines; more of it.
        second: the other.
    """

    first: float
    second: float = 2.0

    def __post_init__(self) -> None:
        if self.first < 0:
            raise TypeError("own")


def test_a_record_is_a_data_class_otherwise():
    pair = Pair(1.0)
    assert replace(pair, first=3.0) == Pair(3.0, 2.0) == Pair(first=3.0)
    assert pickle.loads(pickle.dumps(pair)) == copy.deepcopy(pair) == pair


def test_errors_of_other_kinds_are_as_they_were():
    with pytest.raises(TypeError, match=r"^own$"):
        Pair(-1.0)
    assert refusal(Pair, (1.0,), {}) is None
    assert refusal(Pair, (1.0,), {"second": 2.0}) is None


def test_functions_tell_what_is_missing_as_classes_do():
    with pytest.raises(ArgumentTypeError, match=r"solve needs it, got nothing.*the mathematics"):
        solve()  # pyright: ignore[reportCallIssue]
    with pytest.raises(ArgumentTypeError, match=r"law: collapse_depth needs it.*of the heads"):
        collapse_depth()  # pyright: ignore[reportCallIssue]
    with pytest.raises(ArgumentTypeError, match=r"token: .*no such argument.*'tokens'"):
        collapse_depth(None, token=4, step=0.1, heads=2)  # pyright: ignore[reportCallIssue]

    @telling
    def own(first: int, second: int = 2) -> int:
        """Their sum, unless it is refused.

        Args:
            first: of the two.
            second: the other.
        """
        if first < 0:
            raise TypeError("own")
        return first + second

    assert own(1) == own(first=1, second=2) == 3
    assert own.__name__ == "own"
    with pytest.raises(TypeError, match=r"^own$"):
        own(-1)
    with pytest.raises(ArgumentTypeError, match="first: own needs it, got nothing; pass first="):
        own(second=1)  # pyright: ignore[reportCallIssue]


def test_the_first_sentence_of_the_documentation_is_told():
    told = "the number that comes first, in a sentence of two lines"
    assert described(Pair, "first") == told
    assert described(Pair, "third") == ""
