"""The parent's handle of a worker process: requests and answers are lines of JSON over pipes."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from typing import Any

from benchmarks.environment import ROOT, Setup, variables


class WorkerError(Exception):
    """The worker answered with an error, died, or took too long."""


class Worker:
    """One peer's process; started again after it died or was stopped for taking too long."""

    def __init__(self, peer: str, setup: Setup, scratch: str) -> None:
        self.peer, self._setup, self._scratch = peer, setup, scratch
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - open as long as the worker may write
        self._pending = b""

    def _start(self) -> subprocess.Popen[bytes]:
        cpu = self._setup.processor()
        python = self._setup.python(self.peer)
        command = [python, "-m", "benchmarks.worker", self.peer, "-" if cpu is None else str(cpu)]
        environment, pipe = variables(self._scratch), subprocess.PIPE
        self._pending = b""
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._log, cwd=ROOT, env=environment)
        self._process = process
        return process

    def ask(self, timeout: float = 120.0, **request: Any) -> Any:
        """The answer to a request; raises WorkerError."""
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(process, timeout))
        except (OSError, ValueError) as error:
            self.close()
            raise WorkerError(f"worker died: {self._tail() or error}") from None
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["value"]

    def _line(self, process: subprocess.Popen[bytes], timeout: float) -> bytes:
        assert process.stdout is not None
        until = time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                self.close()
                raise WorkerError(f"took more than {timeout:.0f} s")
            part = os.read(process.stdout.fileno(), 1 << 20)
            if not part:
                raise OSError("no answer")
            self._pending += part
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    def _tail(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 400))
        return self._log.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
