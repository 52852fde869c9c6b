"""onnxruntime: inference on one thread, called as users do and with inputs and results bound beforehand.

It has no training for Python any more, so that only workloads that infer run on it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from benchmarks.timing import Variant
from benchmarks.workloads.base import Arrays, Workload


class Peer:
    """Workloads on onnxruntime."""

    def __init__(self, name: str) -> None:
        self._runtime: Any = importlib.import_module("onnxruntime")
        importlib.import_module("onnx")

    def about(self) -> str:
        """Name and version."""
        return f"onnxruntime {self._runtime.__version__}, inference only"

    def variants(self, workload: Workload, inputs: Arrays) -> dict[str, Callable[[], Variant]]:
        """By way of running: what makes it."""
        model = workload.onnx(inputs)
        if model is None:
            return {}
        session, x = self._session(model), workload.feeds(*inputs)[0]

        def run() -> Variant:
            feeds = {"x": x}
            return Variant("run(None, feeds)", {"run": session.run, "feeds": feeds})

        def bound() -> Variant:
            binding, value = session.io_binding(), self._runtime.OrtValue.ortvalue_from_numpy(x)
            binding.bind_ortvalue_input("x", value)
            binding.bind_output(session.get_outputs()[0].name)
            names = {"run": session.run_with_iobinding, "binding": binding, "x": value}

            def results() -> Any:
                session.run_with_iobinding(binding)
                return binding.copy_outputs_to_cpu()

            return Variant("run(binding)", names, results=results)

        return {"run": run, "bound": bound}

    def _session(self, model: bytes) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = self._runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        return self._runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def cold(self, workload: Workload, inputs: Arrays, variation: int) -> dict[str, float]:
        """Nothing is measured."""
        return {}

    def drop(self) -> None:
        """Nothing is kept."""
