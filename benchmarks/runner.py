"""Runs workloads: every peer's process prepared at once, results checked, then rounds that take turns."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.client import Worker, WorkerError
from benchmarks.environment import Setup
from benchmarks.workloads.base import Workload


@dataclass
class Column:
    """One peer's one way of running a workload."""

    rounds: list[float] = field(default_factory=list)
    """Microseconds per call, by round."""
    cold: list[dict[str, float]] = field(default_factory=list)
    """By repeat: seconds of a build from nothing, by part, and counts."""
    error: str = ""
    """Why there are no figures: results that differ from the reference."""
    missing: str = ""
    """Why there are no figures: what this peer can't do."""

    @property
    def median(self) -> float | None:
        return statistics.median(self.rounds) if self.rounds else None

    def part(self, name: str) -> float | None:
        """The median of one part of the cold builds."""
        values = [each[name] for each in self.cold if name in each]
        return statistics.median(values) if values else None


@dataclass
class Measured:
    """A workload's figures, by column `peer.way`."""

    workload: Workload
    columns: dict[str, Column] = field(default_factory=dict)

    def ratio(self, column: str, to: str) -> float | None:
        """How many times the rounds of `column` take those of `to`: the median over rounds side by side."""
        ours, theirs = self.columns.get(to), self.columns.get(column)
        if ours is None or theirs is None or not ours.rounds or not theirs.rounds:
            return None
        return statistics.median(b / a for a, b in zip(ours.rounds, theirs.rounds, strict=False))


@dataclass
class Results:
    """All figures of a run."""

    workloads: list[Measured]
    about: dict[str, Any]

    def get(self, workload: str) -> Measured | None:
        return next((each for each in self.workloads if each.workload.name == workload), None)

    def to_json(self) -> Any:
        return {
            "about": self.about,
            "workloads": {
                m.workload.name: {
                    name: {"us": c.median, "rounds": c.rounds, "cold": c.cold, "error": c.error, "missing": c.missing}
                    for name, c in m.columns.items()
                }
                for m in self.workloads
            },
        }


def run(workloads: Sequence[Workload], peers: Sequence[str], setup: Setup) -> Results:
    """Measure the workloads on those peers that can be imported."""
    with tempfile.TemporaryDirectory() as scratch:
        workers = {peer: Worker(peer, setup, scratch) for peer in peers}
        try:
            about = _start(workers)
            return Results([_Run(workload, workers, setup, Path(scratch)).all() for workload in workloads], about)
        finally:
            for worker in workers.values():
                worker.close()


def _start(workers: dict[str, Worker]) -> dict[str, Any]:
    about: dict[str, Any] = {}
    for peer in list(workers):
        try:
            about[peer] = workers[peer].ask(do="about")
            _say(f"{peer}: {about[peer]}")
        except WorkerError as error:
            _say(f"{peer}: left out ({error})")
            about[peer] = f"left out: {error}"
            workers.pop(peer).close()
    return about


class _Run:
    """One workload on all workers."""

    def __init__(self, workload: Workload, workers: dict[str, Worker], setup: Setup, scratch: Path) -> None:
        self.measured = Measured(workload)
        self._workload, self._workers, self._setup, self._scratch = workload, workers, setup, scratch
        self._limit = 60.0 if setup.quick else 180.0

    def all(self) -> Measured:
        _say(f"{self._workload.name} ...")
        self._prepare()
        self._check()
        if self._workload.cold:
            self._cold()
        for _ in range(self._setup.count()):
            for name, worker, way in self._live():
                try:
                    us = worker.ask(self._limit, do="measure", variant=way, budget=self._setup.budget())
                    self.measured.columns[name].rounds.append(us)
                except WorkerError as error:
                    self.measured.columns[name].missing = str(error)
        for worker in self._workers.values():
            self._ask(worker, do="drop")
        return self.measured

    def _ask(self, worker: Worker, **request: Any) -> Any:
        try:
            return worker.ask(self._limit, **request)
        except WorkerError as error:
            return error

    def _live(self) -> list[tuple[str, Worker, str]]:
        return [
            (name, self._workers[name.split(".")[0]], name.split(".")[1])
            for name, column in self.measured.columns.items()
            if not column.error and not column.missing
        ]

    def _prepare(self) -> None:
        for peer, worker in self._workers.items():
            answer = self._ask(worker, do="prepare", workload=self._workload.name)
            if isinstance(answer, WorkerError):
                self.measured.columns[f"{peer}.prepare"] = Column(missing=str(answer))
                continue
            for way in answer["variants"]:
                self.measured.columns[f"{peer}.{way}"] = Column()
            for way, why in answer["failed"].items():
                self.measured.columns[f"{peer}.{way}"] = Column(missing=why)

    def _check(self) -> None:
        file = str(self._scratch / "values.npz")
        wanted: list[np.ndarray] | None = None
        for worker in self._workers.values():
            count = self._ask(worker, do="expected", file=file)
            if isinstance(count, int) and count:
                wanted = _load(file)
                break
        order = sorted(self._live(), key=lambda each: each[1].peer == "stepjit")
        for name, worker, way in order:
            column = self.measured.columns[name]
            count = self._ask(worker, do="check", variant=way, file=file)
            if isinstance(count, WorkerError):
                column.missing = str(count)
                continue
            found = _load(file)
            # Without a reference, the first peer beside stepjit is one.
            wanted = wanted if wanted is not None else found
            tolerance = self._workload.excused.get(worker.peer, self._workload.tolerance)
            column.error = _difference(wanted, found, tolerance)

    def _cold(self) -> None:
        # Turn 0 is thrown away: libraries load in it.
        for turn in range(1 + (2 if self._setup.quick else 5)):
            seen = set()
            for name, worker, _ in self._live():
                if worker.peer in seen:
                    continue
                seen.add(worker.peer)
                parts = self._ask(worker, do="cold", variation=turn + 1)
                if isinstance(parts, WorkerError):
                    self.measured.columns[name].missing = str(parts)
                elif parts and turn:
                    self.measured.columns[name].cold.append(parts)


def _difference(wanted: list[np.ndarray], found: list[np.ndarray], rtol: float) -> str:
    if len(wanted) != len(found):
        return f"{len(found)} results, not {len(wanted)}"
    for i, (want, have) in enumerate(zip(wanted, found, strict=True)):
        if want.shape != have.shape:
            return f"result {i} has shape {have.shape}, not {want.shape}"
        scale = float(np.max(np.abs(want))) if want.size else 0.0
        try:
            np.testing.assert_allclose(have.astype(float), want.astype(float), rtol=rtol, atol=rtol * scale)
        except AssertionError as error:
            lines = [line for line in str(error).splitlines() if "difference" in line]
            return f"result {i} differs: {'; '.join(lines)}"
    return ""


def _load(file: str) -> list[np.ndarray]:
    with np.load(file) as data:
        return [data[f"arr_{i}"] for i in range(len(data.files))]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
