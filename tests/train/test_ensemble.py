"""The training loop: members, divergence, resuming, memory, and what it records."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from translimit import data, train
from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    DiskFullError,
    MemoryLimitError,
    StoreError,
)
from translimit.core.checkpoint import save_checkpoint
from translimit.describe import TransformerShape, standard_parameterization
from translimit.models import Transformer
from translimit.train import Optimizer, Schedule, Training

SHAPE = TransformerShape(
    head_dim=4, heads=2, layers=2, tokens=8, outputs=10, patch_dim=8, mlp_ratio=1.0
)
OBSERVE = (
    train.ProbeLoss(),
    train.Coordinates(),
    train.StreamKernel(),
    train.StreamKernel(pooled=False, sample=2),
    train.StreamKernel(gradient=True),
    train.AttentionLaw(places=((1, 2, 3), (0, 0, 5))),
    train.HeadVariance(),
    train.PooledStream(),
    train.StreamMotion(),
    train.Predictions(),
)
TRAINING = Training(
    steps=6, rates=(0.01, 0.1, 1e30), seeds=2, batch=8, optimizer=Optimizer("momentum")
)


def run(**changes):
    arguments = {
        "source": data.digit_patches(),
        "training": TRAINING,
        "key": jax.random.key(0),
        "observe": OBSERVE,
        "observe_at": (0, 2, 6),
        "probe": 5,
    }
    arguments |= changes
    source, training = arguments.pop("source"), arguments.pop("training")
    return train.train(SHAPE, None, source, training, **arguments)


@pytest.fixture(scope="module")
def history():
    return run()


def test_a_diverging_member_is_reported_and_spoils_no_other(history):
    """At rate 1e30 the second loss is not finite; what is beside it equals a run without it."""
    assert history.diverged.tolist() == [[False, False, True]] * 2
    assert history.diverged_at[0, 2] in (1, 2)
    assert np.isnan(history.losses[:, 2, history.diverged_at.max() :]).all()
    assert np.isfinite(history.losses[:, :2]).all()
    assert "Seed 1 at rate 1e+30 diverged at step" in history.describe_divergence()
    assert np.ptp(history.losses[0, :, 0]) == 0  # one start for all rates
    assert history.losses[0, 0, 0] != history.losses[1, 0, 0]
    tame = history.losses[:, :2, -1] < history.losses[:, :2, 0] + 1
    assert tame.all()


def test_losses_are_those_of_torch(history):
    """Seed 1 at rate 0.1, step by step, by torch autograd and momentum in float64."""
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from tests.models.torch_transformer import forward

    from translimit.core import named_key

    numbers = standard_parameterization(SHAPE.size, pixels=8)
    seed_key = named_key(jax.random.key(0), "seed", 1)
    start = Transformer(SHAPE, numbers).init(named_key(seed_key, "start"), jnp.float32)
    w = {
        name: torch.tensor(np.asarray(value, np.float64), requires_grad=True)
        for name, value in start.items()
    }
    optimizer = torch.optim.SGD(w.values(), lr=0.1, momentum=0.9)
    order = int(jax.random.bits(named_key(seed_key, "batches")))
    losses = []
    mult = dict.fromkeys(w, 1.0)
    for step in range(6):
        inputs, labels = data.digit_patches().batch(order, step, 8)
        x = torch.tensor(inputs.astype(np.float64))
        out = forward(SHAPE, mult, numbers.score_scale, 1.0, 1.0, w, x)
        loss = torch.nn.functional.cross_entropy(out, torch.tensor(labels).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(history.losses[1, 1], losses, rtol=2e-5)
    final = {name: value.detach().numpy() for name, value in w.items()}
    np.testing.assert_allclose(history.parameters["mlp_in"][1, 1], final["mlp_in"], atol=2e-5)


def test_observations_are_what_their_names_say(history):
    """Recomputed with NumPy from the fields of the final weights, for one member."""
    member = {name: jnp.asarray(value[1, 1]) for name, value in history.parameters.items()}
    model = Transformer(SHAPE)
    inputs, labels = data.digit_patches().probe(5)
    fields = jax.jit(lambda x: jax.vmap(lambda one: model.fields(member, one))(x))(inputs)
    last = (2, 1, 1)

    def same(name, value, rtol=2e-5):
        np.testing.assert_allclose(history[name][last], value, rtol=rtol, atol=1e-6, err_msg=name)

    stream, logits = np.asarray(fields.stream), np.asarray(fields.scores)
    pooled = stream.mean(2)
    same("pooled_stream", pooled.swapaxes(0, 1))
    same("stream_kernel", np.einsum("ald,bld->lab", pooled, pooled) / 8)
    same("stream_motion", np.mean((stream[:, 2] - stream[:, 0]) ** 2))
    added = [np.mean((stream[:, one + 1] - stream[:, one]) ** 2) for one in range(2)]
    same("stream_variation", sum(added))
    same("spatial_kernel", np.einsum("lsd,ltd->lst", stream[2], stream[2]) / 8)
    same("score", np.stack([logits[1, :, :, 2, 3], logits[0, :, :, 0, 5]], -1))
    same("score_head_var", logits.var(2).mean((0, 2, 3)), rtol=2e-4)
    same("stream", np.sqrt(np.mean(stream[:, -1] ** 2)))
    same("output", np.sqrt(np.mean(np.asarray(fields.output) ** 2)))
    same("accuracy", np.mean(np.argmax(np.asarray(fields.output), 1) == labels))
    shifted = fields.output - jax.scipy.special.logsumexp(fields.output, axis=1, keepdims=True)
    same("probe_loss", -np.mean(np.asarray(shifted)[np.arange(5), labels]))
    assert history["learned_key_change"][0].max() == 0
    assert (history["learned_key_change"][2, :, :2] > 0).all()
    kernel = train.time_kernel(history)
    assert kernel.shape == (2, 3, 3, 15, 15)
    np.testing.assert_allclose(kernel[1, 1, :, 10:, 10:], history["stream_kernel"][last], rtol=1e-5)
    table = history.to_xarray()
    assert table["stream_kernel"].dims == (
        "observation",
        "seed",
        "rate",
        "level",
        "sample",
        "sample_2",
    )


def test_learned_changes_leave_out_what_the_inputs_do(history):
    """Logits move when only the embedding does; what W_Q and W_K learned is nothing then."""
    model = Transformer(SHAPE)
    start = {name: jnp.asarray(value[1, 1]) for name, value in history.parameters.items()}
    moved = {**start, "patch_embedding": start["patch_embedding"] * 1.5}
    inputs, labels = map(jnp.asarray, data.digit_patches().probe(5))

    @jax.jit
    def observe(weights):
        return train.Coordinates()(
            train.Snapshot(model, weights, start, inputs, labels, "cross_entropy")
        )

    coordinates = observe(moved)
    assert coordinates["learned_score_change"] < 1e-6
    assert coordinates["learned_query_change"] < 1e-6
    assert coordinates["score_change"] > 1e-2
    query = observe({**start, "query": start["query"] * 1.5})
    assert query["learned_query_change"] > 1e-2
    assert query["learned_key_change"] < 1e-6


def test_the_change_of_scores_splits_into_what_heads_share_and_what_not(history):
    model = Transformer(SHAPE)
    start = {name: jnp.asarray(value[1, 1]) for name, value in history.parameters.items()}
    moved = {**start, "query": start["query"] * 1.5}
    inputs, labels = map(jnp.asarray, data.digit_patches().probe(5))
    snapshot = train.Snapshot(model, moved, start, inputs, labels, "cross_entropy")
    found = train.ScoreChange()(snapshot)
    now, before = (np.asarray(f.scores) for f in (snapshot.fields, snapshot.start_fields))
    for layer in range(2):
        one, other = np.moveaxis((now - before)[:, layer], 1, 0)  # two heads
        difference, product = np.mean((one - other) ** 2), np.mean(one * other)
        np.testing.assert_allclose(found["score_change_head_var"][layer], difference / 2, rtol=1e-4)
        np.testing.assert_allclose(
            found["score_change_common"][layer], product, rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("by_layer", [False, True])
def test_changes_of_the_stream_begin_behind_the_first_block(history, by_layer):
    """The embedding, level 0, is no block's; without layers the last level alone counts."""
    model = Transformer(SHAPE)
    start = {name: jnp.asarray(value[1, 1]) for name, value in history.parameters.items()}
    moved = {name: 1.1 * value for name, value in start.items()}
    inputs, labels = map(jnp.asarray, data.digit_patches().probe(5))
    snapshot = train.Snapshot(model, moved, start, inputs, labels, "cross_entropy")
    found = train.Coordinates(by_layer=by_layer)(snapshot)
    now, before = (np.asarray(f.stream) for f in (snapshot.fields, snapshot.start_fields))
    levels = range(1, SHAPE.layers + 1) if by_layer else [SHAPE.layers]
    for name, field in (("stream", now), ("stream_change", now - before)):
        expected = [np.sqrt(np.mean(field[:, level] ** 2)) for level in levels]
        np.testing.assert_allclose(np.atleast_1d(found[name]), expected, rtol=1e-5)


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path, history, monkeypatch):
    class StopError(Exception):
        pass

    def stop(fraction):
        if fraction > 0.3:
            raise StopError

    with pytest.raises(StopError):
        run(folder=tmp_path, progress=stop)
    fractions = []
    resumed = run(folder=tmp_path, progress=fractions.append)
    assert fractions[0] > 0.9  # the first part was not computed again
    np.testing.assert_array_equal(resumed.losses, history.losses)
    for name, value in history.observations.items():
        np.testing.assert_array_equal(resumed[name], value)
    for name, value in history.parameters.items():
        np.testing.assert_array_equal(resumed.parameters[name], value)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file: cannot be written \(File exists\); pass another"):
        save_checkpoint(tmp_path / "file", "digest", 0, {}, {})
    with pytest.raises(StoreError, match="another training run"):
        run(folder=tmp_path, key=jax.random.key(1))
    (tmp_path / "training.npz").write_bytes(b"spoilt")
    with pytest.raises(StoreError, match="delete it to start over"):
        run(folder=tmp_path)

    def full(*arguments, **names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("translimit.core.checkpoint.np.savez", full)
    with pytest.raises(DiskFullError, match="free space"):
        run(folder=tmp_path / "other")


def test_members_that_advance_in_two_groups_are_the_same_members(history):
    """Four seeds of three rates are two groups on a CPU; the first two seeds were one before."""
    four = run(training=replace(TRAINING, seeds=4), observe=(), observe_at=())
    np.testing.assert_allclose(four.losses[:2], history.losses, rtol=2e-5)
    assert four.diverged.tolist() == [[False, False, True]] * 4
    assert np.ptp(four.losses[:, 0, 0]) > 0


def test_parts_of_a_batch_add_up_to_it(history):
    four = run(training=replace(TRAINING, accumulate=4, rates=(0.01, 0.1)), observe=())
    np.testing.assert_allclose(four.losses, history.losses[:, :2], rtol=1e-4)


def test_schedule():
    schedule = Schedule(warmup=4, decay="cosine", final=0.1)
    factors = [schedule.factor(step, 20) for step in range(20)]
    np.testing.assert_allclose(factors[:5], [0.25, 0.5, 0.75, 1.0, 1.0])
    assert factors[-1] == pytest.approx(0.1)
    assert Schedule(decay="linear").factor(19, 20) == pytest.approx(0.0)


@pytest.mark.usefixtures("as_user")
def test_refusals(monkeypatch, tmp_path):
    with pytest.raises(MemoryLimitError, match="accumulate more parts"):
        run(memory_limit=1e4, observe=())
    with pytest.raises(ArgumentError, match="observe_at"):
        run(observe_at=(7,))
    with pytest.raises(ArgumentError, match="sequences"):
        run(source=data.digit_patches((4, 4)))
    with pytest.raises(ArgumentError, match="accumulate"):
        Training(4, (0.1,), batch=8, accumulate=3)
    with pytest.raises(ArgumentError, match="rates"):
        Training(4, ())
    for change, message in (
        ({"steps": -1}, "steps: got -1; pass at least 0"),
        ({"seeds": 0}, "seeds: got 0; pass at least 1"),
        ({"loss": "mae"}, "loss: got 'mae'; did you mean 'mse'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            replace(TRAINING, **change)
    for change, message in (
        ({"warmup": -1}, "warmup: got -1; pass at least 0"),
        ({"decay": "cosin"}, "decay: got 'cosin'; did you mean 'cosine'"),
        ({"final": 2.0}, "final: got 2.0; pass a number in"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Schedule(**change)  # pyright: ignore
    with pytest.raises(ArgumentError, match="places: is empty; name at least one"):
        train.AttentionLaw(places=())
    text = TransformerShape(
        head_dim=4, heads=2, layers=1, tokens=8, outputs=256, vocabulary=256, pooled=False
    )
    for shape, message in (
        (replace(text, tokens=4), "sequences have shape .8,.; pass at most 4 token ids"),
        (replace(text, vocabulary=20), "has the token id .*; pass ids below the vocabulary, 20"),
        (replace(text, pooled=True), "targets have shape .*; pass one target a sequence for"),
    ):
        with pytest.raises(ArgumentError, match=message):
            train.train(shape, None, data.byte_text(8), TRAINING, key=jax.random.key(0))
    with monkeypatch.context() as patched:
        patched.setattr("translimit.train.ensemble.device_count", lambda: 3)
        with pytest.raises(ArgumentError, match="seeds: got 2 over 3 devices; pass a multiple"):
            run()
        patched.setattr("translimit.train.ensemble.device_count", lambda: 2)
        patched.setattr(jax, "process_count", lambda: 2)
        with pytest.raises(ArgumentError, match="folder: processes on several hosts share no che"):
            run(folder=tmp_path)
    with pytest.raises(ArgumentTypeError, match=r"training: got 3; pass a train.Training"):
        run(training=3)
    with pytest.raises(ArgumentError, match="was not recorded"):
        train.History((0.1,), np.zeros((1, 1, 2)), np.full((1, 1), -1))["stream_kernel"]
    images = data.digit_patches()
    text = data.Examples(np.zeros((9, 8, 8)), np.full(9, 11))
    with pytest.raises(ArgumentError, match="label 11"):
        run(source=text)
    inputs, ten = np.zeros((9, 8, 8)), np.zeros((9, 10))
    for targets, loss, message in (
        # With one row of ten numbers read as ten labels, or nine numbers as a column, the loss
        # would be that of every pair of examples.
        (np.zeros(9), "mse", r"targets have shape .8,.; pass .batch, 10. numbers"),
        (ten.astype(int), "mse", r"targets have shape .8, 10.; .*integers are labels"),
        (ten[:, :9], "mse", r"targets have shape .8, 9.; pass .batch, 10. numbers"),
        (ten, "cross_entropy", "targets are numbers of type float64, and cross_entropy takes"),
    ):
        with pytest.raises(ArgumentError, match=message):
            run(source=data.Examples(inputs, targets), training=replace(TRAINING, loss=loss))
    with pytest.raises(ArgumentError, match="batch of 2000"):
        images.batch(0, 0, 2000)
