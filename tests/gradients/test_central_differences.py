"""Every differentiable op against central differences, first and second order."""

from __future__ import annotations

import array_cases
import elementwise_cases
import function_cases
import linalg_cases
import nn_cases
import other_cases
import pytest
import reduction_cases
from differences import Case, check

from stepjit.framework import registry

CASES: list[Case] = [
    case
    for module in (
        elementwise_cases, reduction_cases, array_cases, nn_cases, linalg_cases, other_cases, function_cases
    )
    for case in module.CASES
]  # fmt: skip

ELSEWHERE = {
    "FakeQuantWithMinMaxArgs": "a staircase with a straight gradient: test_gradients_run.py",
    "FakeQuantWithMinMaxVars": "a staircase with a straight gradient: test_gradients_run.py",
    "FakeQuantWithMinMaxVarsPerChannel": "a staircase with a straight gradient: test_gradients_run.py",
    "PreventGradient": "its gradient is an error: test_gradients_build.py",
    "RandomGamma": "draws anew in each run: test_gradients_run.py",
    "ReadVariableOp": "its input is a handle: test_gradients_run.py",
    "RefMerge": "its inputs are variables: test_gradients_run.py",
    "RefSwitch": "its input is a variable: test_gradients_run.py",
    "ResourceGather": "its input is a handle: test_gradients_run.py",
    "StatelessRandomGammaV2": "its gradient is that of quantiles: test_gradients_run.py",
    "ResourceGatherNd": "its input is a handle: test_gradients_run.py",
    "_RowsApart": "rows of loops: test_control_flow_gradients.py",
    "_RowsTogether": "rows of loops: test_control_flow_gradients.py",
    "_TensorArrayRead": "its input is a buffer: test_tensor_array.py",
    "_TensorArrayRows": "its input is a buffer: test_tensor_array.py",
    "_TensorArrayUnstack": "its output is a buffer: test_tensor_array.py",
    "_TensorArrayWrite": "its input is a buffer: test_tensor_array.py",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient(case: Case) -> None:
    check(case)


def test_every_differentiable_op_has_a_case() -> None:
    registry.has_gradient("")  # imports what comes late
    differentiable = {kind for kind, function in registry._FUNCTIONS.items() if function is not None}
    ours = {kind for kind in differentiable if not kind.startswith(("CustomGradient-", "Test"))}
    assert ours - {case.kind for case in CASES} == set(ELSEWHERE)


def test_names_tell_cases_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
