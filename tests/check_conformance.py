"""Runs the suite of TF1's behaviour and compares what fails with the list of what is known to be missing.

    python tests/check_conformance.py FOLDER [--bless] [--seconds N] [--module NAME]

`conformance_missing.txt` lists the ids of cases that don't pass yet (`test_math_ops.py::test_x[y]`), or the name of a
file that can't be imported. A failing case that is not listed fails the check, and so does a listed one that passes.
`--bless` takes what passes out of the list; it adds nothing but the cases of a file that can be imported now. Where
there is no list, it writes the first one. A skipped case counts as not passed.

Each file runs in a process of its own, two at a time; a case that kills its process or hangs is a failed case, and the
others of its file are run without it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent
LIST = TESTS / "conformance_missing.txt"
ROOTS = [str(TESTS.parent / name) for name in ("src", "compiler", "runtime")]
CASE_SECONDS = 20
FILE_SECONDS = 150
RESTARTS = 12
SHOWN = 60


@dataclass
class FileRun:
    """One file's cases: by id whether each passed; `error` tells why the file could not be run to its end."""

    name: str
    results: dict[str, bool] = field(default_factory=dict)
    error: str = ""

    @property
    def failing(self) -> set[str]:
        return {name for name, passed in self.results.items() if not passed}


def run_file(path: Path, module: str, deadline: float) -> FileRun:
    """Run the cases of a file, again and again without those begun before, until a run ends by itself."""
    found = FileRun(path.name)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        log.touch()
        for _ in range(RESTARTS):
            left = min(deadline - time.monotonic(), FILE_SECONDS)
            begun = log.read_text(encoding="utf-8")
            ended, output = _pytest(path, module, log, left) if left > 1 else (True, "out of time")
            read_log(found, log.read_text(encoding="utf-8"), output)
            if ended or log.read_text(encoding="utf-8") == begun:
                break
        if left <= 1 or not (found.results or found.error):
            found.error = output.strip()[-600:] or "no output"
    return found


def _pytest(path: Path, module: str, log: Path, seconds: float) -> tuple[bool, str]:
    """Whether pytest came to its end, and what it printed."""
    command = [
        sys.executable, "-m", "pytest", path.name, "-q", "-p", "no:cacheprovider", "-p", "conformance_log",
        "--timeout", str(CASE_SECONDS), "--timeout-method", "signal", "--tb", "line",
    ]  # fmt: skip
    search = [str(TESTS), *ROOTS, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ, "TFMODULE": module, "CONFORMANCE_LOG": str(log), "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(search), "STEPJIT_CACHE": "off",
    }  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=path.parent, env=environment, timeout=seconds, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, "hung"
    return done.returncode in (0, 1, 2, 5), done.stdout


def read_log(run: FileRun, log: str, output: str) -> None:
    """Take over what the plugin noted."""
    run.results.clear()
    for line in log.splitlines():
        event, _, name = line.partition("\t")
        if event == "uncollected":
            run.error = output.strip()[-600:]
        else:
            # A case that was begun has failed, unless it lived to tell otherwise; a failing end outweighs a good middle.
            run.results[name] = event == "passed"


def compare(runs: list[FileRun], listed: set[str]) -> tuple[set[str], set[str], set[str]]:
    """(failing but not listed, listed but passing or gone, failing in a file that was listed as a whole)."""
    unlisted, passing, appeared = set[str](), set[str](), set[str]()
    for run in runs:
        own = {name for name in listed if name.partition("::")[0] == run.name}
        if run.error:
            unlisted |= {run.name} - own
            continue
        if run.name in own:
            appeared |= run.failing - own
        else:
            unlisted |= run.failing - own
        passing |= own - run.failing
    files = {run.name for run in runs}
    passing |= {name for name in listed if name.partition("::")[0] not in files}
    return unlisted, passing, appeared


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the behaviour suite's failures with the list of missing cases.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bless", action="store_true", help="take what passes out of the list; make the first list")
    parser.add_argument("--seconds", type=float, default=480, help="for the whole run (default 480)")
    parser.add_argument("--module", default="stepjit.compat.v1")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    files = sorted(options.folder.resolve().glob("test_*.py"))
    if not files:
        parser.error(f"no test files in {options.folder}")
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda path: run_file(path, options.module, deadline), files))
    show(runs)
    return check(runs, options.bless)


def show(runs: list[FileRun]) -> None:
    for run in runs:
        note = f"  could not be run to its end: {run.error.splitlines()[-1]}" if run.error else ""
        print(f"{run.name:<28}{sum(run.results.values()):>6} of {len(run.results):>4} pass{note}")
    total = sum(len(run.results) for run in runs)
    print(f"{'all':<28}{sum(sum(run.results.values()) for run in runs):>6} of {total:>4} pass")


def check(runs: list[FileRun], bless: bool) -> int:
    """Report the differences to the list, or with `bless` write those that may be written; returns the exit code."""
    if bless and not LIST.exists():
        return write(set[str]().union(*({run.name} if run.error else run.failing for run in runs)))
    listed = set(LIST.read_text(encoding="utf-8").splitlines()) - {""} if LIST.exists() else set()
    unlisted, passing, appeared = compare(runs, listed)
    if bless:
        write((listed - passing) | appeared)
        passing, appeared = set(), set()
    for text, names in (
        ("fails, and is not listed", unlisted), ("is listed, but passes or is gone", passing),
        ("can be imported now: list its case by --bless", appeared),
    ):  # fmt: skip
        for name in sorted(names)[:SHOWN]:
            print(f"{name}: {text}")
        if len(names) > SHOWN:
            print(f"... and {len(names) - SHOWN} more")
    good = not (unlisted or passing or appeared)
    print(f"conformance: {'as listed' if good else 'NOT as listed'} ({len(listed)} listed as missing)")
    return 0 if good else 1


def write(names: set[str]) -> int:
    LIST.write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")
    print(f"{LIST.name}: {len(names)} entries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
