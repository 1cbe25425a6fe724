"""Construction names the argument that is missing, and what it stands for."""

import copy
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path

import equinox as eqx
import pytest

import translimit
from translimit.core import ArgumentTypeError, Record, solve
from translimit.core.missing import Telling, described, refusal, tell_construction, telling
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


def public_calls() -> Iterator[tuple[str, Callable[..., object], list[str]]]:
    """What the rooms show of functions and data classes, and the arguments that each needs.

    Bare modules of equinox are left out: all but one are results, which no user makes.
    """
    top = Path(translimit.__file__).parent
    for init in sorted(top.rglob("__init__.pyi")):
        room = ".".join(("translimit", *init.parent.relative_to(top).parts))
        module = importlib.import_module(room)
        for name in module.__all__:
            called = getattr(module, name)
            if not inspect.isfunction(called) and not (
                isinstance(called, type) and is_dataclass(called)
            ):
                continue
            modules = isinstance(called, type) and issubclass(called, eqx.Module)
            if modules and not isinstance(called, Telling):
                continue
            known = inspect.signature(called).parameters.values()
            if any(one.kind is one.VAR_POSITIONAL for one in known):
                continue
            needed = [
                one.name
                for one in known
                if one.default is one.empty and one.kind is not one.VAR_KEYWORD
            ]
            if needed and not inspect.isabstract(called):
                yield f"{room}.{name}", called, needed


def test_everything_public_names_what_is_missing():
    calls = list(public_calls())
    assert len(calls) > 500
    silent = []
    for name, called, needed in calls:
        try:
            called()
        except TypeError as error:
            if getattr(error, "argument", None) != needed[0]:
                silent.append(f"{name}: {error}")
    assert silent == []


def test_what_a_room_shows_is_one_object_and_is_pickled():
    from translimit.observe import effective_rank
    from translimit.observe import effective_rank as again

    assert effective_rank is again is translimit.observe.effective_rank
    assert pickle.loads(pickle.dumps(effective_rank)) is effective_rank
    assert pickle.loads(pickle.dumps(solve)) is translimit.solve
    with pytest.raises(
        AttributeError, match=r"has no attribute 'Size'; it is translimit\.describe"
    ):
        translimit.observe.Size  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_a_class_that_is_no_data_class_stays():
    class Own:
        def __init__(self, first: int) -> None:
            self.first = first

    before = Own.__init__
    tell_construction(Own)
    assert Own.__init__ is before


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
