"""The one verb: whose method, which key, which times, and how failure is told."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from translimit.core import (
    AbstractMethod,
    AbstractProblem,
    AbstractSolution,
    ArgumentError,
    ArgumentTypeError,
    Keep,
    NoSuchLimitError,
    NotEstimated,
    Outcome,
    SolveError,
    solve,
)


class Exact(AbstractMethod):
    outcome: Outcome = eqx.field(default_factory=lambda: Outcome.successful)
    random: ClassVar[bool] = False


class Sampled(AbstractMethod):
    outcome: Outcome = eqx.field(default_factory=lambda: Outcome.successful)
    random: ClassVar[bool] = True


class Foreign(AbstractMethod):
    random: ClassVar[bool] = False


class Path(AbstractSolution):
    ts: Any
    place: Any
    outcome: Outcome
    discretisation: Any = eqx.field(kw_only=True, default=0.25)
    samples: int = eqx.field(kw_only=True, static=True, default=1)
    reference: ClassVar[str] = "nobody"

    def _dataset(self) -> xarray.Dataset:
        times = np.asarray(self.ts)
        return xarray.Dataset({"place": ("time", np.asarray(self.place))}, coords={"time": times})

    def plot(self, ax: Any = None) -> Any:
        raise AssertionError("not asked for here")


class Line(AbstractProblem[Path]):
    """The state t, or t times a normal number."""

    t1: Any = 2.0
    state: ClassVar[str] = "the place, a number"

    @property
    def methods(self) -> tuple[type[AbstractMethod], ...]:
        return (Exact, Sampled)

    def default_method(self) -> AbstractMethod:
        return Exact()

    def run(self, method: Any, *, ts: Any, key: Any, keep: Keep, progress: Any) -> Path:
        if progress is not None:
            progress(0.5)
            progress(1.0)
        factor = 1.0 if key is None else jax.random.normal(key)
        place = jnp.asarray(ts * factor)
        observed = jax.vmap(keep.observed)(jnp.asarray(ts), place)
        kept = place if keep.states else place[:0]
        return Path(
            ts, place=kept, outcome=method.outcome, observed=observed, states_kept=keep.states
        )


class Closed(Line):
    """A line whose solver shows no state."""

    state: ClassVar[str] = ""


FAILURES = [
    Outcome.max_steps_reached,
    Outcome.not_converged,
    Outcome.degenerate_update,
    Outcome.non_finite,
]
RESULTS = [Outcome.successful, Outcome.blow_up, Outcome.divergence]


def test_the_default_method_and_the_default_times() -> None:
    solution = solve(Line())
    np.testing.assert_array_equal(solution.ts, np.linspace(0, 2, 101))
    assert isinstance(solution.ts, np.ndarray)
    assert solution.ts.dtype == np.float64
    assert solution.outcome == Outcome.successful


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("save", [[0.5, 2.0], (0.5, 2), np.array([0.5, 2.0]), jnp.array([0.5, 2])])
def test_times_that_were_asked_for(save: Any) -> None:
    np.testing.assert_array_equal(solve(Line(), save=save).ts, [0.5, 2.0])


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    "save", [[-0.1, 1.0], [0.0, 2.1], [1.0, 1.0], [1.0, 0.5], [], 1.0, [[0.0, 1.0]], [0.0, np.nan]]
)
def test_unusable_times_are_refused(save: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^save: "):
        solve(Line(), save=save)


def test_a_random_method_requires_a_key_and_a_deterministic_one_refuses_it() -> None:
    key = jax.random.key(0)
    with pytest.raises(ArgumentTypeError, match=r"key: Sampled draws random numbers; pass key="):
        solve(Line(), Sampled())
    with pytest.raises(ArgumentTypeError, match=r"key: Exact is deterministic; leave the key out"):
        solve(Line(), Exact(), key=key)
    first, again = (solve(Line(), Sampled(), key=key).place for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first[-1] != 2.0


@pytest.mark.usefixtures("as_user")
def test_a_method_of_another_problem_is_refused() -> None:
    for method in (Foreign(), "Exact", Exact):
        with pytest.raises(
            ArgumentTypeError, match=r"method: .* does not solve Line; use one of: E"
        ):
            solve(Line(), method)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_is_raised_with_the_solution_or_returned(outcome: Any) -> None:
    with pytest.raises(SolveError) as error:
        solve(Line(), Exact(outcome))
    assert Outcome[outcome] in str(error.value)
    assert isinstance(error.value.solution, Path)
    assert solve(Line(), Exact(outcome), throw=False).outcome == outcome


@pytest.mark.parametrize("outcome", RESULTS)
def test_results_are_never_raised(outcome: Any) -> None:
    assert solve(Line(), Exact(outcome)).outcome == outcome


def test_every_outcome_is_a_result_or_a_failure_with_a_message() -> None:
    messages = [Outcome[outcome] for outcome in FAILURES + RESULTS]
    assert len(set(messages)) == len(messages) == len(Outcome)
    assert all(Outcome[outcome] for outcome in FAILURES)


def test_solving_inside_jit_vmap_and_grad() -> None:
    def end(t1: Any) -> Any:
        return solve(Line(t1)).place[-1]

    np.testing.assert_allclose(jax.jit(end)(3.0), 3.0)
    np.testing.assert_allclose(jax.vmap(end)(jnp.array([1.0, 2.0])), [1.0, 2.0])
    np.testing.assert_allclose(jax.grad(end)(3.0), 1.0)


@pytest.mark.parametrize("part", ["ts", "place"])
def test_a_failure_inside_jit_is_raised_when_numbers_are_used(part: str) -> None:
    @eqx.filter_jit
    def run(fails: Any) -> Any:
        outcome = Outcome.where(fails, Outcome.not_converged, Outcome.successful)
        return getattr(solve(Line(), Exact(outcome)), part)

    assert run(jnp.array(False))[-1] == 2.0
    with pytest.raises(eqx.EquinoxRuntimeError, match="an inner iteration did not converge"):
        jax.block_until_ready(run(jnp.array(True)))


def test_traced_times_are_checked_when_they_are_used() -> None:
    run = eqx.filter_jit(lambda save: solve(Line(), save=save).ts)
    np.testing.assert_array_equal(run(jnp.array([0.5, 1.0])), [0.5, 1.0])
    for save in ([0.5, 2.5], [1.0, 0.5], [-1.0, 0.5]):
        with pytest.raises(eqx.EquinoxRuntimeError, match="save: pass strictly increasing times"):
            jax.block_until_ready(run(jnp.array(save)))


def test_progress_is_told_to_a_function() -> None:
    told: list[float] = []
    solve(Line(), progress=told.append)
    assert told == [0.5, 1.0]


def test_the_progress_bar_is_quiet_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    solve(Line(), progress=True)
    solve(Line(), progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_solution_tells_its_end_and_error_in_the_same_words() -> None:
    found = solve(Line(), save=[0.5, 2.0], observe={"square": lambda t, x: x**2 + 0 * t})
    assert repr(found) == (
        "Path(times: 2, from 0.5 to 2; outcome: successful; discretisation: 0.25; observed: square)"
    )
    assert "<td>successful</td>" in found._repr_html_()
    data = found.to_xarray()
    np.testing.assert_allclose(data["square"], [0.25, 4.0])
    assert data["square"].dims == ("time",)
    told = {"outcome": "successful", "discretisation": 0.25, "samples": 1, "reference": "nobody"}
    assert data.attrs == told
    unknown = eqx.tree_at(lambda s: s.discretisation, found, NotEstimated("nothing is discretised"))
    assert unknown.to_xarray().attrs["discretisation"] == "not estimated: nothing is discretised"
    assert "discretisation: not estimated: nothing" in repr(unknown)
    blown = Path(np.ones(2), place=np.ones(2), outcome=Outcome.blow_up)
    assert "outcome: blow_up: the solution ceases to exist" in repr(blown)


def test_a_batch_of_solutions_counts_its_ends() -> None:
    fine = jnp.array([True, False, True])
    ends = jax.vmap(lambda one: Outcome.where(one, Outcome.successful, Outcome.blow_up))(fine)
    assert "outcome: 2 successful, 1 blow_up" in repr(
        Path(np.ones(1), place=np.ones((3, 1)), outcome=ends)
    )


def test_what_is_observed_stands_without_the_states() -> None:
    found = solve(Line(), save=[1.0, 2.0], observe={"x": lambda t, x: x}, keep_states=False)
    np.testing.assert_allclose(found.observed["x"], [1.0, 2.0])
    assert found.place.shape == (0,)
    assert set(found.to_xarray()) == {"x"}


@pytest.mark.usefixtures("as_user")
def test_observables_are_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match="keep_states: is False, and nothing is observed"):
        solve(Line(), keep_states=False)
    with pytest.raises(ArgumentTypeError, match="observe: 'x' is a float"):
        solve(Line(), observe={"x": 1.0})  # pyright: ignore[reportArgumentType]
    with pytest.raises(NoSuchLimitError, match="observe: the solver of Closed has no state"):
        solve(Closed(), observe={"x": lambda t, x: x})
