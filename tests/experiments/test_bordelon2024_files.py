"""Files for `translimit dmft` say all that the limit takes, and networks learn by it."""

import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tests.docs.test_hooks import hook

from translimit import core, describe, train
from translimit.cli import main
from translimit.core import ConfigError
from translimit.experiments.bordelon2024 import dmft_own_best_rate, limit_and_networks, rate_curves
from translimit.experiments.bordelon2024.own_problem import OwnProblem
from translimit.limits import dmft

#: A problem on which every key below acts: two inputs of two tokens.
SMALL = OwnProblem(
    task="synthetic", inputs=2, tokens=2, dim=4, steps=4, axis="none", samples=0, eta0=0.1
)
#: Of every argument: what a file says, and where the problem has it with which value.
SAID: dict[str, tuple[dict[str, Any], str, Any]] = {
    "vocabulary": ({"task": "copy", "vocabulary": 5}, "vocabulary", 5),
    "position_std": ({"position_std": 0.5}, "position_std", 0.5),
    "position_rate": ({"position_std": 0.5, "position_rate": 0.0}, "position_rate", 0.0),
    "loss": ({"loss": "huber", "delta": 0.5}, "loss", dmft.Huber(0.5)),
    "classes": ({"loss": "cross_entropy", "classes": 3}, "classes", 3),
    "readout_std": ({"readout_std": 0.0}, "readout_std", 0.0),
    "centred": ({"centred": True}, "centred", True),
    "tied": ({"task": "copy", "vocabulary": 3, "tied": True}, "tied", True),
    "steps": ({"steps": 7}, "steps", 7),
    "eta0": ({"eta0": 0.3}, "eta0", 0.3),
    "momentum": ({"momentum": 0.5}, "momentum", 0.5),
    "weights": ({"weights": [0.75, 0.25]}, "weights", [[0.75, 0.25]] * 4),
    "schedule": ({"schedule": [1, 0.5, 0, 2]}, "schedule", [1, 0.5, 0, 2]),
    "lr_convention": ({"lr_convention": "table"}, "lr_convention", "table"),
    "optimizer": ({"optimizer": "adam", "b1": 0.5}, "optimizer", dmft.Adam(b1=0.5)),
    "head_dim": ({"infinite_sizes": ["head_dim"]}, "architecture.head_dim", math.inf),
    "layers": ({"infinite_sizes": ["layers"]}, "architecture.layers", math.inf),
    "alpha_A": ({"alpha_A": 0.75}, "architecture.alpha_A", 0.75),
    "alpha_L": ({"alpha_L": 0.75}, "architecture.alpha_L", 0.75),
    "beta0": ({"beta0": 2.0}, "architecture.beta0", 2.0),
    "gamma0": ({"gamma0": 2.0}, "architecture.gamma0", 2.0),
    "attention": ({"attention": False, "mlp": "tanh"}, "architecture.attention", False),
    "mlp": ({"mlp": "tanh"}, "architecture.mlp", describe.Activation.TANH),
    "mlp_ratio": ({"mlp": "tanh", "mlp_ratio": 2.0}, "architecture.mlp_ratio", 2.0),
    "norm": ({"norm": "rms"}, "architecture.norm", "rms"),
    "activation_on_stream": (
        {"activation_on_stream": "gelu"},
        "architecture.activation_on_stream",
        describe.Activation.GELU,
    ),
    "final_norm": ({"final_norm": True}, "architecture.final_norm", True),
    "causal": ({"causal": True}, "architecture.causal", True),
    "qk_norm": ({"qk_norm": "rms"}, "architecture.qk_norm", "rms"),
    "score_gain": ({"score_gain": 2.0}, "architecture.score_gain", 2.0),
    "score_gain_rate": ({"score_gain_rate": 2.0}, "architecture.score_gain_rate", 2.0),
    "rotary": ({"rotary": 100.0}, "architecture.rotary", 100.0),
    "queries_per_key": ({"queries_per_key": 2}, "architecture.queries_per_key", 2),
    "norm_eps": ({"norm": "rms", "norm_eps": 0.1}, "architecture.norm_eps", 0.1),
    "SquaredError": ({"loss": "squared"}, "loss", dmft.SquaredError()),
    "Huber.delta": ({"loss": "huber", "delta": 0.5}, "loss.delta", 0.5),
    "Logistic.temperature": ({"loss": "logistic", "temperature": 2.0}, "loss.temperature", 2.0),
    "CrossEntropy.smoothing": ({"loss": "cross_entropy", "smoothing": 0.1}, "loss.smoothing", 0.1),
    "CrossEntropy.temperature": (
        {"loss": "cross_entropy", "temperature": 2.0},
        "loss.temperature",
        2.0,
    ),
    "SGD": ({"optimizer": "sgd"}, "optimizer", dmft.SGD()),
    "Adam.b1": ({"optimizer": "adam", "b1": 0.5}, "optimizer.b1", 0.5),
    "Adam.b2": ({"optimizer": "adam", "b2": 0.5}, "optimizer.b2", 0.5),
    "Adam.eps": ({"optimizer": "adam", "eps": 0.5}, "optimizer.eps", 0.5),
    "AdamW.b1": ({"optimizer": "adamw", "b1": 0.5}, "optimizer.b1", 0.5),
    "AdamW.b2": ({"optimizer": "adamw", "b2": 0.5}, "optimizer.b2", 0.5),
    "AdamW.eps": ({"optimizer": "adamw", "eps": 0.5}, "optimizer.eps", 0.5),
    "AdamW.weight_decay": (
        {"optimizer": "adamw", "weight_decay": 0.5},
        "optimizer.weight_decay",
        0.5,
    ),
    "Sign.weight_decay": (
        {"optimizer": "sign", "weight_decay": 0.5},
        "optimizer.weight_decay",
        0.5,
    ),
}
#: What is said otherwise: by the arrays of a task or file (below), and what is always refused.
OTHERWISE = {"architecture", "inputs", "token_ids", "targets", "readout", "trained_gains"}


def named(kind: type) -> set[str]:
    names = {f"{kind.__name__}.{one.name}" for one in dataclasses.fields(kind)}
    return names or {kind.__name__}


def test_no_argument_of_the_limit_is_forgotten() -> None:
    kinds = [
        one
        for one in [getattr(dmft, name) for name in dir(dmft)]
        if isinstance(one, type)
        and issubclass(one, dmft.AbstractLoss | dmft.AbstractOptimizer)
        and not inspect.isabstract(one)
    ]
    assert len(kinds) == 8
    arguments = set(inspect.signature(dmft.TrainingDynamics.__init__).parameters) - {"self"}
    arguments |= {one.name for one in dataclasses.fields(dmft.Architecture)}
    for kind in kinds:
        arguments |= named(kind)
    assert set(SAID) | OTHERWISE == arguments


@pytest.mark.parametrize("argument", sorted(SAID))
def test_a_file_says_it(argument: str) -> None:
    change, where, value = SAID[argument]
    plain = core.config.to_json(SMALL)
    assert any(plain[key] != given for key, given in change.items()) or argument in (
        "SquaredError",
        "SGD",
    )
    found: Any = core.config.from_json(OwnProblem, {**plain, **change}).limit()
    for name in where.split("."):
        found = getattr(found, name)
    np.testing.assert_array_equal(found, value)


X = np.random.default_rng(0).standard_normal((3, 2, 4))
IDS = np.array([[0, 1], [2, 1], [1, 3]])
WORDS, CLASSES, REAL = np.array([[1, -1], [1, 2], [3, 0]]), np.array([0, 2, 1]), X[:, 0, :3]


@pytest.mark.parametrize(
    ("arrays", "said", "shape", "pooled"),
    [
        ({"inputs": X, "targets": X[:, 0, 0]}, {}, (3,), True),
        ({"inputs": X, "targets": REAL}, {"loss": "huber"}, (3, 3), True),
        ({"inputs": X, "targets": X[..., 0]}, {"readout": "token"}, (3, 2), False),
        ({"inputs": X, "targets": X[..., :3]}, {}, (3, 2, 3), False),
        ({"inputs": X, "targets": CLASSES}, {"loss": "cross_entropy"}, (3, 3), True),
        ({"inputs": X, "targets": WORDS}, {"loss": "cross_entropy"}, (3, 2, 4), False),
        ({"token_ids": IDS, "targets": WORDS}, {}, (3, 2, 4), False),
        ({"token_ids": IDS, "targets": CLASSES}, {}, (3, 3), True),
        ({"token_ids": IDS, "targets": CLASSES}, {"classes": 5}, (3, 5), True),
        ({"token_ids": IDS, "targets": REAL}, {"loss": "squared"}, (3, 3), True),
        ({"token_ids": IDS, "targets": X[..., :3]}, {"loss": "huber"}, (3, 2, 3), False),
    ],
)
def test_what_arrays_say(
    arrays: dict[str, np.ndarray],
    said: dict[str, Any],
    shape: tuple[int, ...],
    pooled: bool,
    tmp_path: Path,
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, allow_pickle=False, **arrays)
    words = {"vocabulary": 4} if "token_ids" in arrays else {}
    rows = [1.0] * 3 if pooled else [[1.0, 0.5]] * 3
    own = dataclasses.replace(SMALL, task=str(path), inputs=3, weights=rows, **words, **said)
    own = dataclasses.replace(own)
    assert own.file_digest()
    problem = own.limit()
    assert problem.equations.targets.shape == shape
    if "token_ids" in arrays:
        np.testing.assert_array_equal(problem.token_ids, IDS)
    else:
        np.testing.assert_array_equal(problem.inputs, X)
    network = own.shape(4)
    outputs = problem.equations.targets.y.shape[1]
    assert (network.pooled, network.outputs) == (pooled, outputs)
    weights = own.source().row_weights(0, 3, 3)
    assert weights is not None
    np.testing.assert_array_equal(weights, problem.weights[3])
    bad = dataclasses.replace(own, weights=[1.0, 1.0])
    with pytest.raises(ConfigError, match=r"^weights: has shape \[2\]; pass \[3"):
        bad.file_digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [1.0]}, r"weights: has shape \[1\]; pass \[2\], or \[4, 2\] for weights of"),
        ({"weights": [[1.0, 2.0]]}, r"weights: has shape \[1, 2\]; pass \[2\], or \[4, 2\]"),
        ({"weights": [[1.0, 2.0], [1.0]]}, "weights: has lists of different lengths"),
        ({"weights": [-1.0, 2.0]}, "weights: goes from -1 to 2; pass numbers from 0"),
        ({"weights": [math.nan, 2.0]}, "weights: goes from nan"),
        ({"weights": "equal"}, "weights: got 'equal'; pass a list of numbers or"),
        (
            {"task": "copy", "vocabulary": 3, "weights": [1.0, 1.0]},
            r"weights: has shape \[2\]; pass \[2, 2\], or \[4, 2, 2\]",
        ),
        ({"schedule": [1.0]}, "schedule: has 1 factors, and there are 4 steps; pass one for each"),
        ({"schedule": [1.0, 1.0, 1.0, -1.0]}, "schedule: got .*; pass at least 0"),
        ({"lr_convention": "gamma0"}, "lr_convention: got 'gamma0' with optimizer 'sgd'; pass "),
        (
            {"lr_convention": "gamma0_squared", "optimizer": "adam"},
            "lr_convention: got 'gamma0_squared' with optimizer 'adam'; pass gamma0 or table",
        ),
        ({"classes": 1}, "classes: got 1; pass at least 2"),
        ({"axis": "heads", "sizes": [3, 6], "queries_per_key": 2}, "queries_per_key: got 2, and"),
        ({"axis": "heads", "infinite_sizes": ["layers"]}, "infinite_sizes: got .* with axis"),
        ({"infinite_sizes": ["heads"]}, "infinite_sizes: got .*heads"),
        ({"infinite_sizes": ["layers"], "alpha_L": 0.5}, "infinite_sizes: has layers, which has"),
        ({"position_std": -1.0}, "position_std: got -1"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        core.config.from_json(OwnProblem, {**core.config.to_json(SMALL), **change})


#: One input at a time, a rate that rises and falls, and a heavy ball.
STEPWISE = dataclasses.replace(
    SMALL,
    axis="heads",
    sizes=(32, 64),
    steps=6,
    samples=600,
    populations=3,
    eta0=0.1,
    gamma0=1.0,
    momentum=0.5,
    weights=((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.25, 0.5)),
    schedule=(0.5, 1.0, 1.5, 0.5, 0.25, 1.0),
)


def extrapolated(problem: OwnProblem, seeds: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Outputs at infinitely many heads [steps, rows], their errors, and the loss of the largest."""
    nets = [
        limit_and_networks.train_networks(problem, jax.random.key(H), heads=H, seeds=seeds)
        for H in (16, 32)
    ]
    f = [net.predictions.reshape(seeds, problem.steps, -1) for net in nets]
    errors = [one.std(axis=0, ddof=1) / seeds**0.5 for one in f]
    mean = 2 * f[1].mean(axis=0) - f[0].mean(axis=0)
    return mean, np.hypot(2 * errors[1], errors[0]), float(nets[1].loss[:, -1].mean())


def away(problem: OwnProblem, found: tuple[np.ndarray, np.ndarray, float]) -> float:
    """Root mean square of the distance from a limit in standard errors, after the start."""
    dynamics = problem.limit()
    method = problem.method(dynamics)
    solution = core.solve(dynamics, method, key=jax.random.key(0))
    assert isinstance(solution, dmft.TrainingSolution)
    both = (solution.predictions, solution.stderr)
    f, stderr = (one.reshape(problem.steps, -1)[1:] for one in both)
    return float(np.sqrt(np.mean((f - found[0][1:]) ** 2 / (found[1][1:] ** 2 + stderr**2))))


def test_networks_have_the_weights_and_the_schedule_of_their_limit() -> None:
    found = extrapolated(STEPWISE, 400)
    assert away(STEPWISE, found) < 2
    equal = dataclasses.replace(STEPWISE, weights=())
    constant = dataclasses.replace(STEPWISE, schedule=())
    assert away(equal, found) > 5
    assert away(constant, found) > 5
    # The loss is that of the weights of the last step.
    f = found[0][-1]
    y = STEPWISE.data()[1]
    expected = 0.25 * (y[0] - f[0]) ** 2 / 2 + 0.5 * (y[1] - f[1]) ** 2 / 2
    assert abs(found[2] - expected) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"queries_per_key": 2, "momentum": 0.0, "weights": ()},
        {"position_std": 0.7, "position_rate": 0.5},
        {"norm": "rms", "norm_eps": 0.5},
        {"lr_convention": "table", "gamma0": 1.2},
        {"optimizer": "adam", "momentum": 0.0, "b1": 0.5, "b2": 0.8, "eps": 0.05},
        {"task": "file", "vocabulary": 4, "classes": 4},
    ],
)
def test_networks_have_what_the_file_says(change: dict[str, Any], tmp_path: Path) -> None:
    if change.get("task") == "file":  # classes of whole sentences
        np.savez(tmp_path / "data.npz", token_ids=IDS[:2], targets=CLASSES[:2])
        change = {**change, "task": str(tmp_path / "data.npz")}
    own = dataclasses.replace(STEPWISE, **change)
    assert away(own, extrapolated(own, 400)) < 2


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_rates_of_networks_follow_the_schedule(optimizer: str) -> None:
    """A factor of 0 leaves a network as it is, under gradient descent and under Adam."""
    own = dataclasses.replace(
        SMALL, axis="heads", sizes=(4, 8), optimizer=optimizer, schedule=(1.0, 0.0, 0.0, 1.0)
    )
    nets = limit_and_networks.train_networks(own, jax.random.key(0), heads=4, seeds=4)
    f = nets.predictions
    np.testing.assert_array_equal(f[:, 1], f[:, 2])
    assert np.abs(f[:, 1] - f[:, 0]).min() > 1e-4
    assert own.network_schedule.factors == ((1.0, 0.0, 0.0) if optimizer == "adam" else ())


def test_conventions_of_the_rate() -> None:
    """One step of networks is the same under both conventions where the rates are."""
    table = dataclasses.replace(SMALL, gamma0=2.0, lr_convention="table")
    assert table.network_rate == pytest.approx(table.limit().rate)
    adam = dataclasses.replace(SMALL, gamma0=2.0, optimizer="adam", lr_convention="gamma0")
    assert adam.network_rate == pytest.approx(adam.limit().rate) == 0.2
    with pytest.raises(core.ArgumentError, match=r"^factors: are given beside"):
        train.Schedule(warmup=2, factors=(1.0, 1.0))
    with pytest.raises(core.ArgumentError, match=r"^schedule: has factors of 2 steps, and there"):
        train.Training(steps=3, rates=(1.0,), schedule=train.Schedule(factors=(1.0, 1.0)))


def test_the_lazy_limit_has_weights_and_schedule() -> None:
    exact = dataclasses.replace(STEPWISE, axis="none", infinite_sizes=("head_dim",), gamma0=1e-4)
    solution = core.solve(exact.limit())
    assert isinstance(solution, dmft.TrainingSolution)
    lazy = exact.lazy(exact.limit(), solution.ntk[0])
    np.testing.assert_allclose(lazy, solution.predictions, atol=1e-6)
    assert np.abs(lazy[-1]).min() > 0.1


def test_losses_at_many_rates_have_the_weights_of_the_last_step() -> None:
    own = dataclasses.replace(STEPWISE, momentum=0.0)
    losses = rate_curves.network_losses(
        own, jax.random.key(0), heads=8, seeds=4, rates=np.array([own.eta0, 2 * own.eta0])
    )
    assert losses.shape == (4, 2)
    key = core.named_key(jax.random.key(0), "block", 0)
    nets = limit_and_networks.train_networks(own, key, heads=8, seeds=4)
    np.testing.assert_allclose(losses[:, 0], nets.loss[:, -1], rtol=1e-4)


def test_the_page_has_every_key() -> None:
    made = hook("configurations")
    page = made.on_page_markdown(":::: dmft\n")
    for field in dataclasses.fields(dmft_own_best_rate.Config):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{field.name}` |"))
        assert len(row.split(" | ")[2].strip(" |")) > 1, row
    text = (Path(__file__).parents[2] / "docs" / "configurations.md").read_text(encoding="utf-8")
    assert "\n:::: dmft\n" in text
    said = text.partition("```toml\n")[2].partition("```")[0]
    values = core.config.read_file(_written(said))
    assert core.config.from_json(OwnProblem, values).limit().weights.shape == (6, 3)


def _written(text: str) -> Path:
    import tempfile

    path = Path(tempfile.mkdtemp()) / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_limit_alone_says_that_nothing_was_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.toml"
    said = (
        'task = "ring"\ninputs = 2\nsteps = 2\naxis = "none"\nattention = false\nmlp = "linear"\n'
    )
    file.write_text(said)
    assert main(["dmft", str(file), "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr()
    assert "no claims: nothing was compared" in told.out + told.err
    assert "nearest rival" not in told.out
