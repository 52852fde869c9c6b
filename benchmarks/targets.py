"""What the project aims at, judged against a run's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.runner import Measured, Results

OURS = "stepjit.callable"

NOT_A_RACE = (
    "call_overhead", "call_add", "call_scalars", "call_lists", "call_float64", "warm_mlp_train", "warm_dag_1000",
)  # fmt: skip
"""Workloads with limits of their own."""


@dataclass(frozen=True)
class Verdict:
    """One target: what was measured beside the limit; `met` is None when there are no figures."""

    target: str
    measured: str
    met: bool | None


def judge(results: Results) -> list[Verdict]:
    """Every target whose workloads ran."""
    verdicts: list[Verdict] = []
    for measured in results.workloads:
        verdicts += [rule(measured) for rule in _RULES.get(measured.workload.name, ())]
        if measured.workload.name not in NOT_A_RACE:
            verdicts += [_faster(measured, "tensorflow"), _faster(measured, "jax")]
    return verdicts


Rule = Callable[[Measured], Verdict]


def _verdict(measured: Measured, what: str, figure: float | None, text: str, met: bool) -> Verdict:
    target = f"{measured.workload.name}: {what}"
    if figure is None:
        columns = [c.error or c.missing for name, c in measured.columns.items() if c.error or c.missing]
        return Verdict(target, columns[0][:90] if columns else "not measured", None)
    return Verdict(target, text, met)


def _below(limit: float, column: str = OURS) -> Rule:
    """The median call takes at most `limit` us."""

    def rule(measured: Measured) -> Verdict:
        found = measured.columns[column].median if column in measured.columns else None
        what = f"{column} <= {limit:g} us"
        return _verdict(measured, what, found, f"{found or 0:.3f} us", found is not None and found <= limit)

    return rule


def _times(columns: Sequence[str], least: float, to: str = OURS) -> Rule:
    """stepjit is at least `least` times as fast as the fastest of `columns`."""

    def rule(measured: Measured) -> Verdict:
        found = _best_ratio(measured, columns, to)
        names = " or ".join(columns)
        what = f">= {least:g}x faster than {names}" if least >= 1 else f"<= {1 / least:.2g}x the time of {names}"
        text = "" if not found else f"{found[1] if least >= 1 else 1 / found[1]:.2f}x ({found[0]})"
        return _verdict(measured, what, found[1] if found else None, text, bool(found and found[1] >= least))

    return rule


def _best_ratio(measured: Measured, columns: Sequence[str], to: str = OURS) -> tuple[str, float] | None:
    ratios = [(name, ratio) for name in columns if (ratio := measured.ratio(name, to)) is not None]
    return min(ratios, key=lambda each: each[1]) if ratios else None


def _faster(measured: Measured, peer: str) -> Verdict:
    names = [name for name in measured.columns if name.startswith(f"{peer}.")]
    found = _best_ratio(measured, names)
    text = f"{found[1]:.2f}x ({found[0]})" if found else ""
    return _verdict(measured, f"faster than {peer}", found[1] if found else None, text, bool(found and found[1] > 1))


def _part(name: str, limit: float, scale: float, unit: str) -> Rule:
    """A part of the cold build is at most `limit`."""

    def rule(measured: Measured) -> Verdict:
        found = measured.columns[OURS].part(name) if OURS in measured.columns else None
        shown = (found or 0) * scale
        what = f"cold {name} <= {limit:g}{unit}"
        return _verdict(measured, what, found, f"{shown:.4g}{unit}", found is not None and shown <= limit)

    return rule


_C = ("c.c", "c.c_fast")

_RULES: dict[str, Sequence[Rule]] = {
    "scalar_step": [
        _times(["numba.array"], 3), _times(["numba.float"], 3), _times(["jax.jit"], 50),
        _times(["tensorflow.run"], 300), _times(_C, 1 / 1.5),
    ],
    "call_overhead": [
        _below(0.25), _below(3, "stepjit.run"), _times(["numba.array", "jax.jit", "tensorflow.direct"], 1),
    ],
    "call_add": [_times(["numpy.add"], 1)],
    "call_scalars": [_below(5)],
    "call_lists": [_below(5)],
    "call_float64": [_below(5)],
    "kalman": [
        _times(["numba.array"], 3), _times(["numba.tuned"], 3), _times(["jax.jit"], 50),
        _times(["tensorflow.run"], 300),
    ],
    "policy": [
        _times(["numba.array"], 3), _times(["numba.closed"], 3), _times(["jax.jit", "jax.closed"], 15),
        _times(["tensorflow.run"], 150), _times(_C, 1 / 1.5),
    ],
    "layer_norm": [_times(_C, 1 / 1.5)],
    "softmax_ce_grad": [_times(_C, 1 / 1.5)],
    **{
        f"random_{kind}_1M": [_times(["numpy.numpy"], 1)]
        for kind in ("uniform", "normal", "gamma", "poisson", "classes")
    },
    "batch_sizes_20": [_part("compiles", 1, 1, "")],
    "step_20_ops": [_part("total", 60, 1e3, " ms")],
    "random_graph_1000": [_part("total", 1, 1, " s"), _part("build_us_per_op", 30, 1, " us")],
    "warm_mlp_train": [_part("first", 10, 1e3, " ms")],
    "warm_dag_1000": [_part("first", 80, 1e3, " ms")],
    "long_chain_5000": [_part("total", 5, 1, " s"), _part("build_us_per_op", 30, 1, " us")],
}  # fmt: skip
