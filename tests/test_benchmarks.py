"""The benchmark suite: its harness end to end on small workloads, its verdicts, its reference values."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("no checkout", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import runner  # noqa: E402
from benchmarks.environment import Setup  # noqa: E402
from benchmarks.runner import Column, Measured, Results  # noqa: E402
from benchmarks.targets import judge  # noqa: E402
from benchmarks.workloads import WORKLOADS, by_name  # noqa: E402

SMALL = ("scalar_step", "call_overhead", "kalman", "chain_1k", "layer_norm", "policy", "embedding_train", "lstm_train", "step_20_ops")


def test_names_differ():
    assert len({each.name for each in WORKLOADS}) == len(WORKLOADS)


@pytest.mark.parametrize("name", SMALL)
def test_stepjit_agrees_with_the_reference(name):
    import stepjit.compat.v1 as tf

    workload = by_name(name)
    inputs = workload.inputs(np.random.default_rng(7))
    with tf.Graph().as_default():
        placeholders = [tf.placeholder(dtype, shape) for dtype, shape in workload.placeholders(*inputs)]
        fetches = list(workload.graph(tf, inputs, *placeholders))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            step = session.make_callable(fetches, placeholders)
            for _ in range(workload.steps):
                found = step(*workload.feeds(*inputs))
    wanted = workload.expected(*inputs)
    for have, want in zip([each for each in found if each is not None], wanted, strict=True):
        scale = float(np.max(np.abs(want)))
        np.testing.assert_allclose(have, want, rtol=workload.tolerance, atol=workload.tolerance * scale)


def test_a_run_from_process_to_verdict():
    setup = Setup(quick=True, rounds=1, pin=False)
    results = runner.run([by_name("call_add")], ["stepjit", "numpy"], setup)
    columns = results.get("call_add").columns
    assert set(columns) == {"stepjit.callable", "stepjit.run", "numpy.add"}
    assert all(column.rounds and not column.error and not column.missing for column in columns.values())
    assert [verdict.met is None for verdict in judge(results)] == [False]


def test_a_peer_without_its_library_is_left_out():
    setup = Setup(quick=True, rounds=1, pin=False)
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("TensorFlow is here")
    results = runner.run([], ["tensorflow"], setup)
    assert results.about["tensorflow"].startswith("left out: ModuleNotFoundError")


def test_verdicts():
    measured = Measured(by_name("call_overhead"), {
        "stepjit.callable": Column(rounds=[0.2, 0.2, 0.3]), "stepjit.run": Column(rounds=[4.0]),
        "jax.jit": Column(rounds=[2.0, 1.0, 9.0]),
    })  # fmt: skip
    verdicts = {verdict.target: verdict for verdict in judge(Results([measured], {}))}
    assert measured.ratio("jax.jit", "stepjit.callable") == pytest.approx(10)
    assert [verdict.met for verdict in verdicts.values()] == [True, False, True]


def test_wrong_results_are_told():
    one = [np.array([1.0, 2.0])]
    assert runner._difference(one, [np.array([1.0, 2.0 + 1e-9])], 1e-6) == ""
    assert "differs" in runner._difference(one, [np.array([1.0, 2.1])], 1e-6)
    assert "shape" in runner._difference(one, [np.array([1.0])], 1e-6)
