"""Every configuration of every experiment against hostile values of every field."""

import math
from dataclasses import fields, is_dataclass

import pytest
from tests.experiments.checks import needs

from translimit import data, describe
from translimit.cli import main
from translimit.core import ConfigError, config
from translimit.experiments import all_experiments
from translimit.experiments.bordelon2024 import learning_problem, tasks
from translimit.experiments.checked import CheckedConfig

#: What no field, or hardly one, can be.
HOSTILE = (
    *(-1, 0, 1, 2**31, 10**30, 10**400, -1.5, 0.0, 1e-300, 1e-9, 0.3, 1e308, -1e308),
    *(math.nan, math.inf, -math.inf, None, True, "", "nonesuch", "nonesuch.npz", (), {}),
)


def hostile_values(current):
    """Hostile values for a field: bare, and as entries of lists of its shape."""
    yield from HOSTILE
    if isinstance(current, tuple):
        for value in HOSTILE:
            yield (value,)
            yield (*current[:-1], value)
        yield current + current
        yield tuple(reversed(current))
    if is_dataclass(current):
        for one in fields(current):
            for value in hostile_values(getattr(current, one.name)):
                yield {one.name: value}


def refusal_of(kind, values):
    """The configuration, or None and how it is refused."""
    try:
        return config.from_json(kind, values), ""
    except ConfigError as error:
        return None, str(error)


@pytest.mark.parametrize("name", sorted(all_experiments()))
def test_a_hostile_value_is_refused_by_name_or_has_a_finite_plan(name):
    """What a configuration lets through can be counted in cells, seconds and bytes."""
    experiment = all_experiments()[name]
    start = experiment.presets["demo"]
    assert isinstance(start, CheckedConfig)
    plain, refused = config.to_json(start), 0
    for field in fields(start):
        for value in hostile_values(getattr(start, field.name)):
            made, refusal = refusal_of(type(start), {**plain, field.name: value})
            if made is None:
                refused += 1
                named = (field.name, *(value if isinstance(value, dict) else ()))
                assert any(one in refusal for one in named), (field.name, value, refusal)
            elif not (isinstance(value, str) and value.endswith(".npz")):  # a file is read
                count, seconds, memory = needs(experiment, made)
                assert 0 < count < 1e5, (field.name, value)
                assert 0 < seconds < math.inf, (field.name, value)
                assert 0 < memory < math.inf, (field.name, value)
    assert refused > 10 * len(fields(start))


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("bordelon2024/coordinates", "controls=-1"),
        ("bordelon2024/coordinates", "controls=nonesuch"),
        ("bordelon2024/dmft-networks", "momentum=1e308"),
        ("noci2023/sde-and-networks", "paths=-1"),
        ("noci2023/sde-and-networks", "networks=-1"),
        ("castin2025/digits", "draws=1000000000"),
    ],
)
def test_the_command_line_refuses_in_one_line_before_a_plan(name, setting, capsys, tmp_path):
    status = main(["run", name, "--plan", "--set", setting, "--out", str(tmp_path / "run")])
    said = capsys.readouterr()
    field = setting.partition("=")[0]
    assert status == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert field in said.err


def test_what_configurations_know_without_jax_is_what_there_is():
    """Names and counts that are written down beside configurations, against their source."""
    assert set(learning_problem.MLPS) <= {"none", *(one.value for one in describe.Activation)}
    labels = data.load_digits().labels
    assert len(labels) == data.DIGITS
    rarer = min(int((labels == label).sum()) for label in tasks.CLASSES)
    assert rarer == tasks.DIGITS_PER_CLASS
