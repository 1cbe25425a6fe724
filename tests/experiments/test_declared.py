"""What a declared experiment does: templates, holes, results by part and point, records, claims."""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pytest
from jaxtyping import Float, Shaped

import translimit.experiments as ex
from translimit import figures
from translimit.core import ArgumentError, ConfigError, Estimate, Verdict, named_key
from translimit.experiments.checked import CheckedConfig, Counts
from translimit.experiments.parts import fill


@dataclass(frozen=True)
class Config(CheckedConfig):
    sizes: Counts = (2, 3, 4)


@dataclass(frozen=True)
class Walk(ex.Arrays):
    time: Annotated[Float[np.ndarray, " time"], "time $t$"]
    place: Annotated[Float[np.ndarray, "walker time"], "place"]
    kind: Shaped[np.ndarray, " walker"]
    pair: Float[np.ndarray, "walker 2"]
    label: str
    step: float
    spare: Float[np.ndarray, " time"] | None = None


@dataclass(frozen=True)
class At:
    start: str
    size: int

    @property
    def half(self) -> float:
        return self.size / 2


def walk(config: Config, at: At, keys: ex.Keys) -> Walk:
    import jax

    place = np.asarray(jax.random.normal(keys.own, (at.size, 5)))
    shared = float(jax.random.uniform(keys.shared("data")))
    kind = np.array(["left", "right"] * at.size)[: at.size]
    pair = np.zeros((at.size, 2), np.float32)
    return Walk(np.arange(5.0), place, kind, pair, at.start, shared)


WALKS = ex.Part(
    "walk/{start}/n={size}",
    Walk,
    walk,
    grid=lambda c: [At(start, n) for start in ("here", "there") for n in c.sizes],
    cost=lambda c, at: ex.Cost(float(at.size), 1e6 * at.size),
    hole=lambda c, at: "it is too far" if at == At("there", 3) else None,
)


def spread(found: ex.Found[Config], at: At) -> Estimate:
    return Estimate.from_samples(found(WALKS, at).place.ravel().astype(float))


def rows(found: ex.Found[Config]):
    for at, one in found.each(WALKS):
        yield (at.start, at.size, float(one.place.mean()), 0.1)


EXPERIMENT = ex.Experiment(
    name="fake/walks",
    title="Walks",
    summary="Walks.",
    citations=("jax",),
    presets={"demo": Config()},
    parts=(WALKS,),
    claims=(
        ex.Claims(
            "{start}-{half:.1f}",
            lambda found, at: f"{at.size} walkers stay {at.start}",
            estimate=spread,
            prediction=0.0,
            tol=5.0,
            over=WALKS.points,
            rivals=(ex.Rival("far away", lambda found, at: 10.0 * at.size),),
        ),
    ),
    figures=(
        ex.Figure(
            name="means",
            title="Means",
            caption="Means of {sizes} walkers, $x_{{i}}$.",
            columns=("start", "walkers", "mean", "stderr"),
            rows=rows,
            x="walkers",
            by="start",
            layers=(figures.points("mean", "stderr"), figures.level(0.0, label="none")),
        ),
    ),
    reference="nobody",
)


@pytest.fixture(scope="module")
def results():
    config = Config()
    return {c.name: EXPERIMENT.compute_cell(config, c, 7) for c in EXPERIMENT.cells(config)}


def test_cells_follow_the_grid_without_its_holes() -> None:
    names = [cell.name for cell in EXPERIMENT.cells(Config())]
    assert names == [
        *(f"walk/here/n={n}" for n in (2, 3, 4)),
        *(f"walk/there/n={n}" for n in (2, 4)),
    ]
    assert EXPERIMENT.cells(Config())[0].parameters == {"start": "here", "size": 2}
    (hole,) = EXPERIMENT.holes(Config())
    assert hole == ex.Hole("walk/there/n=3", "it is too far")
    assert EXPERIMENT.cost(Config()) == ex.Cost(15.0, 4e6)
    assert EXPERIMENT.costs(Config())["walk/there/n=4"].seconds == 4.0
    with pytest.raises(ConfigError, match=r"no cell 'walk/here/n=5'.*walk/here/n="):
        EXPERIMENT.compute_cell(Config(), ex.Cell("walk/here/n=5"), 0)


def test_records_say_dims_labels_and_coordinates(results) -> None:
    data = results["walk/here/n=2"]
    assert data["place"].dims == ("walker", "time")
    assert data["place"].attrs["long_name"] == "place"
    assert list(data.coords) == ["time"]
    assert data["pair"].dims == ("walker", "pair_1")
    assert "spare" not in data
    assert data.attrs["reference"] == "nobody"
    back = Walk.from_dataset(data)
    np.testing.assert_array_equal(back.place, data["place"].values)
    assert isinstance(back.step, float)
    assert back.label == "here"
    assert back.spare is None
    # Older runs kept plain values among the attributes.
    older = data.drop_vars("step").assign_attrs(step=0.5)
    assert Walk.from_dataset(older).step == 0.5
    with pytest.raises(ConfigError, match=r"Walk: the stored cell has no 'kind'"):
        Walk.from_dataset(data.drop_vars("kind"))


def test_keys_are_those_of_the_cell_and_of_what_is_shared(results) -> None:
    import jax

    own = named_key(7, "fake/walks", "walk/here/n=3")
    np.testing.assert_array_equal(
        results["walk/here/n=3"]["place"].values, jax.random.normal(own, (3, 5))
    )
    shared = {float(one["step"]) for one in results.values()}
    assert shared == {float(jax.random.uniform(named_key(7, "fake/walks", "data")))}


def test_results_are_found_by_part_and_point(results) -> None:
    found = ex.Found(Config(), results)
    assert found(WALKS, At("here", 4)).place.shape == (4, 5)
    assert [at for at, _ in found.each(WALKS)] == WALKS.points(Config())
    with pytest.raises(ConfigError, match="no cell 'walk/there/n=3'"):
        found(WALKS, At("there", 3))
    calls = []

    def counted(one: ex.Found[Config]) -> int:
        calls.append(one)
        return len(calls)

    assert found.once(counted) == found.once(counted) == 1


def test_claims_and_figures_come_from_the_same_grid(results) -> None:
    claims = EXPERIMENT.check(Config(), results)
    assert tuple(c.name for c in claims) == EXPERIMENT.claim_names(Config())
    assert claims[0].name == "here-1.0"
    assert claims[0].statement == "2 walkers stay here"
    assert claims[0].verdict is Verdict.supported
    assert [(one.name, one.prediction) for one in claims[0].rivals] == [("far away", 20.0)]
    assert claims[0].to_json()["rivals"][0]["refuted"]
    (spec,) = EXPERIMENT.drawings(Config(), results)
    assert spec.caption.startswith("Means of (2, 3, 4) walkers, $x_{i}$.")
    assert spec.caption.endswith("Not computed: walk/there/n=3, it is too far.")
    assert (spec.shown, spec.excluded) == (2, 1)


@pytest.mark.parametrize(
    ("template", "point", "name"),
    [
        ("n={n}", 3, "n=3"),
        ("{a}/{b:g}/{a}", ("x", 0.5), "x/0.5/x"),
        ("{case[0]}-{case[1]}", ((1, 2),), "1-2"),
        ("{start}/{half}", At("here", 3), "here/1.5"),
        ("alone", ex.Alone(), "alone"),
    ],
)
def test_templates_take_values_tuples_and_dataclasses(template, point, name) -> None:
    assert fill(template, point) == name


def test_a_stranger_is_told_what_is_wrong() -> None:
    assert ex.check_experiment(EXPERIMENT, Config((2,))).failed == {}
    wrong = replace(
        EXPERIMENT,
        name="walks",
        citations=("nobody",),
        figures=(replace(EXPERIMENT.figures[0], rows=lambda found: [("a",)]),),
    )
    with pytest.raises(ArgumentError, match=r"(?s)has no paper.*figures draw"):
        ex.check_experiment(wrong, Config((2,)))
    report = ex.check_experiment(wrong, Config((2,)), throw=False)
    assert set(report.failed) == {
        "presets and citations are known",
        "figures draw, with their tables",
    }
    assert str(report).count("failed") == 3
