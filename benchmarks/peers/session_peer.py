"""stepjit and TensorFlow: the same TF1 code, run through sessions."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import fresh
from benchmarks.timing import Variant
from benchmarks.workloads.base import Arrays, Workload


class Built:
    """A graph, its session and the fetches of a workload."""

    def __init__(self, tf: Any, workload: Workload, inputs: Arrays, config: Any = None, body: Any = None) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.placeholders = [tf.placeholder(dtype, shape) for dtype, shape in workload.placeholders(*inputs)]
            fetches = (body or workload.graph)(tf, inputs, *self.placeholders)
            self.fetches = list(fetches) if len(fetches) > 1 else fetches[0]
            self.init = tf.global_variables_initializer() if workload.variables or workload.stateful else None
        self.session = tf.Session(graph=self.graph, config=config)
        self.values = list(workload.feeds(*inputs))
        self.reset()

    def reset(self) -> None:
        """Give variables their initial values."""
        if self.init is not None:
            self.session.run(self.init)

    def run_variant(self) -> Variant:
        """Session.run with a dict, made anew at each call as users do."""
        names = {f"p{i}": placeholder for i, placeholder in enumerate(self.placeholders)}
        values = {f"a{i}": value for i, value in enumerate(self.values)}
        pairs = ", ".join(f"p{i}: a{i}" for i in range(len(values)))
        names.update(values, run=self.session.run, fetches=self.fetches)
        return Variant(f"run(fetches, {{{pairs}}})", names, reset=self.reset)

    def call_variant(self, function: Any) -> Variant:
        """A function of the feeds."""
        names = {"f": function, **{f"a{i}": value for i, value in enumerate(self.values)}}
        return Variant(f"f({', '.join(list(names)[1:])})", names, reset=self.reset)


class Peer:
    """Workloads on a module that has TF1's API."""

    def __init__(self, name: str) -> None:
        self._stepjit = name == "stepjit"
        self._tf: Any = importlib.import_module(f"{name}.compat.v1")
        self._tf.disable_v2_behavior()
        self._built: list[Built] = []

    def about(self) -> str:
        """Name and version."""
        if self._stepjit:
            import stepjit

            return f"stepjit {getattr(stepjit, '__version__', '')}"
        return f"tensorflow {self._tf.__version__}"

    def variants(self, workload: Workload, inputs: Arrays) -> dict[str, Callable[[], Variant]]:
        """By way of running: what makes it."""
        made: list[Built] = []

        def built() -> Built:
            if not made:
                made.append(self._build(workload, inputs))
            return made[0]

        def make_callable() -> Variant:
            return built().call_variant(built().session.make_callable(built().fetches, built().placeholders))

        def run() -> Variant:
            return built().run_variant()

        if self._stepjit:
            return {"callable": make_callable, "run": run}
        return {
            "run": run,
            "callable": make_callable,
            "direct": lambda: self._direct(workload, inputs),
            "xla": lambda: self._xla(workload, inputs),
        }

    def _config(self, single_threaded: bool = False, xla: bool = False) -> Any:
        if self._stepjit:
            return None
        config = self._tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        if single_threaded:
            config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"
        if xla:
            config.graph_options.optimizer_options.global_jit_level = self._tf.OptimizerOptions.ON_2
        return config

    def _build(self, workload: Workload, inputs: Arrays, body: Any = None, **config: bool) -> Built:
        # Reference variables, TF1's default, exist neither for XLA nor for the single-threaded executor.
        if config:
            self._tf.enable_resource_variables()
        try:
            built = Built(self._tf, workload, inputs, self._config(**config), body)
        finally:
            self._tf.disable_resource_variables()
        self._built.append(built)
        return built

    def _direct(self, workload: Workload, inputs: Arrays) -> Variant:
        """TensorFlow's cheapest way in, which is private: all work in the calling thread."""
        built = self._build(workload, inputs, single_threaded=True)
        return built.call_variant(self._private_callable(built))

    def _private_callable(self, built: Built) -> Any:
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.CallableOptions()
        options.feed.extend(placeholder.name for placeholder in built.placeholders)
        fetches = built.fetches if isinstance(built.fetches, list) else [built.fetches]
        for fetch in fetches:
            if isinstance(fetch, self._tf.Operation):
                options.target.append(fetch.name)
            else:
                options.fetch.append(fetch.name)
        return built.session._make_callable_from_options(options)

    def _xla(self, workload: Workload, inputs: Arrays) -> Variant:
        """XLA: the whole graph as one compiled function, or clusters of it where variables are in the way."""
        if workload.variables or workload.stateful:
            built = self._build(workload, inputs, xla=True)
        else:
            built = self._build(workload, inputs, body=_compiled_body(workload))
        return built.call_variant(self._private_callable(built))

    def cold(self, workload: Workload, inputs: Arrays, variation: int) -> dict[str, float]:
        """Seconds of building a graph and of its first step, and what it took per op."""
        if workload.fresh and self._stepjit:
            return fresh.start(workload.name)
        workload.variation = variation
        try:
            start = time.perf_counter()
            built = Built(self._tf, workload, inputs, self._config())
            ready = time.perf_counter()
            call = built.session.make_callable(built.fetches, built.placeholders)
            call(*built.values)
            first = time.perf_counter()
        finally:
            workload.variation = 0
        parts = {
            "build": ready - start,
            "first": first - ready,
            "total": first - start,
            "build_us_per_op": (ready - start) * 1e6 / len(built.graph.get_operations()),
        }
        if self._stepjit:
            parts["compiles"] = built.session.compile_stats().compiled
        parts.update(_sweep(workload, call, parts["total"]))
        if self._stepjit:
            parts["compiles"] = built.session.compile_stats().compiled
        built.session.close()
        return parts

    def drop(self) -> None:
        """Close the sessions."""
        for built in self._built:
            built.session.close()
        self._built.clear()


def _sweep(workload: Workload, call: Any, spent: float) -> dict[str, float]:
    """All further feeds of a workload that has several, in turn."""
    more: Sequence[Any] = getattr(workload, "turns", ())
    if not more:
        return {}
    start = time.perf_counter()
    for feeds in more:
        call(*feeds)
    return {"sweep": spent + time.perf_counter() - start}


def _compiled_body(workload: Workload) -> Any:
    def body(tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        import tensorflow

        function = tensorflow.function(lambda *feeds: tuple(workload.graph(tf, inputs, *feeds)), jit_compile=True)
        outputs = function(*placeholders)
        return list(outputs)

    return body
