"""Reading runs: one table, exports of wandb and TensorBoard, and every refusal once."""

import numpy as np
import pytest
from tests.extrapolate.runs import table, write, write_rows

from translimit.core import DataError, StoreError
from translimit.extrapolate import fit, read_runs


def test_a_table_is_read_by_its_names(tmp_path):
    rows = table(sizes={"layers": (2, 3, 4, 6), "width": (64, 64, 64, 64)}, rates=(0.01, 0.02))
    rng = np.random.default_rng(0)
    rng.shuffle(rows)
    curves = read_runs(write_rows(tmp_path / "runs.csv", rows))
    assert curves.axes == ("layers",)  # width does not vary
    assert curves.sizes[:, 0].tolist() == [2, 3, 4, 6]
    assert curves.seeds == ("0", "1", "2")
    assert curves.rates == (0.01, 0.02)
    assert curves.steps.tolist() == [10, 20, 40]
    assert curves.losses.shape == (4, 3, 2, 3)
    row = rows[5]
    place = (
        [2, 3, 4, 6].index(row["layers"]),
        row["seed"],
        curves.rates.index(row["lr"]),
        [10, 20, 40].index(row["step"]),
    )
    assert curves.losses[place] == pytest.approx(row["loss"])
    assert "no schedule is told" in curves.notes[0]
    assert fit(curves).predict(layers=12).loss[-1] > 0


def test_steps_within_five_percent_are_read_between(tmp_path):
    rows = table()
    for row in rows:
        if row["layers"] == 6 and row["step"] == 20:
            row["step"] = 20.5
    curves = read_runs(write_rows(tmp_path / "runs.csv", rows))
    assert curves.steps.tolist() == [10, 20, 40]
    own = [row["loss"] for row in rows if row["layers"] == 6 and row["seed"] == 1]
    assert curves.losses[3, 1, 0, 1] == pytest.approx(np.interp(20, [10, 20.5, 40], own))


def test_only_the_last_step_of_a_decaying_run_is_read(tmp_path):
    path = tmp_path / "runs.csv"
    curves = read_runs(write_rows(path, table(more={"schedule": "cosine"})))
    assert curves.steps.tolist() == [40]
    assert "only the last step" in curves.notes[0]
    constant = read_runs(write_rows(path, table(more={"schedule": "constant"})))
    assert (constant.steps.tolist(), constant.notes) == ([10, 20, 40], ())


def test_horizons_may_be_told(tmp_path):
    rows = [
        row
        for horizon in (20, 40)
        for row in table(steps=(10, horizon), more={"steps": horizon, "schedule": "cosine"})
    ]
    curves = read_runs(write_rows(tmp_path / "runs.csv", rows))
    assert curves.steps.tolist() == [20, 40]
    last = [r["loss"] for r in rows if r["layers"] == 2 and r["step"] == r["steps"]]
    assert sorted(curves.losses[0].ravel()) == pytest.approx(sorted(last))


@pytest.fixture
def exports(tmp_path):
    """Runs as TensorBoard and wandb export them, with a table of runs."""
    rows = table(steps=(10, 20))
    runs = []
    for layers in (2, 3, 4, 6):
        for seed in (0, 1, 2):
            own = [
                (r["step"], r["loss"]) for r in rows if (r["layers"], r["seed"]) == (layers, seed)
            ]
            name = f"run-{layers}-{seed}.csv"
            if layers == 2:  # TensorBoard
                lines = [(1.7e9 + step, step, loss) for step, loss in own]
                write(tmp_path / name, ["Wall time", "Step", "Value"], lines)
            elif layers == 3:  # a chart of wandb
                header = ["Step", "run - eval/nll", "run - eval/nll__MIN", "run - eval/nll__MAX"]
                write(tmp_path / name, header, [(s, y, y, y) for s, y in own])
            else:  # the history of a run
                header = ["_step", "lr", "eval/nll", "grad"]
                lines = [(5, 0.1, "", 1.0), *[(s, 0.1, y, "") for s, y in own]]
                write(tmp_path / name, header, lines)
            runs.append({"file": name, "layers": layers, "seed": seed, "lr": 0.1})
            runs[-1]["metric"] = "" if layers == 2 else "eval/nll"
    return rows, write_rows(tmp_path / "table.csv", runs)


def test_exports_with_a_table_of_runs(exports):
    rows, path = exports
    curves = read_runs(path)
    assert curves.losses.shape == (4, 3, 1, 2)
    told = np.array([row["loss"] for row in rows]).reshape(4, 3, 1, 2)
    assert curves.losses == pytest.approx(told)
    assert curves.rates == (0.1,)


def test_an_export_whose_loss_is_not_known(exports, tmp_path):
    _, path = exports
    write(tmp_path / "run-2-0.csv", ["Step", "a", "b"], [(1, 2, 3)])
    with pytest.raises(DataError, match=r"has no column that is known as a loss .* metric"):
        read_runs(path)
    write(tmp_path / "run-2-0.csv", ["a", "loss"], [(1, 2)])
    with pytest.raises(DataError, match="has no column of steps"):
        read_runs(path)
    write(tmp_path / "run-2-0.csv", ["step", "loss"], [(1, "")])
    with pytest.raises(DataError, match="has no value of 'loss'"):
        read_runs(path)
    (tmp_path / "run-2-0.csv").unlink()
    with pytest.raises(StoreError, match=r"run-2-0\.csv: cannot be read"):
        read_runs(path)


def without(rows, name):
    return [{k: v for k, v in row.items() if k != name} for row in rows]


def changed(rows, where, **values):
    return [row | values if all(row[k] == v for k, v in where.items()) else row for row in rows]


def later(rows, layers, factor):
    return [
        row | {"step": row["step"] * factor} if row["layers"] == layers else row for row in rows
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda: without(table(), "layers"), "has no column of a size; add one or more of head_d"),
        (
            lambda: [{"params": 10, **row} for row in without(table(), "layers")],
            "has only params, which is no axis; add one or more of head_dim",
        ),
        (lambda: without(table(), "loss"), "has no column loss; add the columns seed, step"),
        (lambda: without(table(), "seed"), "has no column seed"),
        (lambda: changed(table(), {}, layers=2), "has one size only (layers=2)"),
        (lambda: changed(table(), {"layers": 3}, layers=""), "layers: has an empty or negative"),
        (lambda: changed(table(), {"seed": 1}, loss="x"), "loss: got 'x' in row 5; pass a number"),
        (lambda: changed(table(), {"seed": 1}, loss=-1), "loss: is -1 at layers=2, seed 1, step 1"),
        (lambda: [*table(), table()[0]], "step: 10 occurs twice with the same sizes, seed and lr"),
        (
            lambda: changed(table(more={"batch": 8}), {"seed": 1}, batch=16),
            "batch: 16 and 8 are mixed; compare two files with --against",
        ),
        (
            lambda: later(table(), 6, 2),
            "steps: the horizon changes with the size: 40 steps at layers=2, 80 at layers=6; train "
            "all sizes for the same number of steps, or add a column schedule=constant",
        ),
        (
            lambda: later(table(more={"schedule": "linear"}), 6, 2),
            "steps: the horizon changes with the size: 40 steps at layers=2, 80 at layers=6",
        ),
        (
            lambda: later(table(more={"schedule": "constant"}), 6, 1.2),
            "step: seed 0 of layers=6 has no loss within 5 % of step 10",
        ),
        (
            lambda: changed(table(steps=(40,), more={"steps": 40}), {"seed": 1}, steps=80),
            "steps: a run of layers=2 ends at step 40 of 80",
        ),
        (
            lambda: changed(
                table(steps=(40,), more={"steps": 40}), {"layers": 6}, steps=80, step=80
            ),
            "steps: the horizon changes with the size: 40 steps at layers=2, 80 at layers=6",
        ),
    ],
)
def test_refusals(rows, message, tmp_path):
    with pytest.raises(DataError) as caught:
        read_runs(write_rows(tmp_path / "runs.csv", rows()))
    assert message in str(caught.value)


def test_seed_sets_that_differ_need_to_be_unpaired(tmp_path):
    rows = [row for row in table(seeds=range(5)) if row["layers"] != 6 or row["seed"] != 1]
    path = write_rows(tmp_path / "runs.csv", rows)
    with pytest.raises(DataError, match=r"seed: layers=2 and layers=6 have different seeds; give"):
        fit(read_runs(path))
    loose = fit(read_runs(path, paired=False))
    assert loose.predict(layers=12).loss[-1] > 0
    assert "5 unpaired seeds" in str(loose)


def test_an_empty_loss_is_a_run_that_diverged(tmp_path):
    rows = changed(table(rates=(0.01, 0.02)), {"lr": 0.02, "seed": 1, "step": 40}, loss="")
    curves = read_runs(write_rows(tmp_path / "runs.csv", rows))
    with pytest.raises(DataError, match=r"not finite at layers=2, seed 1, lr 0\.02, step 40"):
        fit(curves, lr=0.02)
    assert fit(curves).lr == 0.01


def test_files_that_are_no_tables(tmp_path):
    path = tmp_path / "runs.csv"
    with pytest.raises(StoreError, match=r"runs\.csv: cannot be read"):
        read_runs(path)
    path.write_text("a,b\n")
    with pytest.raises(DataError, match="has no rows"):
        read_runs(path)
    path.write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match="names the column 'a' twice"):
        read_runs(path)
    path.write_text("a,b\n1,2\n1\n")
    with pytest.raises(DataError, match="row 3 has 1 cells of 2"):
        read_runs(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match="not UTF-8"):
        read_runs(path)
