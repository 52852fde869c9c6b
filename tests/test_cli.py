"""The command line in processes of its own, and the README's tour."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
STEPJIT = [sys.executable, "-m", "stepjit"]


def stepjit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*STEPJIT, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_demo_learns_and_shows_its_kernels() -> None:
    done = stepjit("demo", "--epochs", "8", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    accuracy = re.search(r"test accuracy +([\d.]+)%", done.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97
    assert len(re.findall(r"median +[\d.]+ µs +p99 +[\d.]+ µs", done.stdout)) == 2
    assert re.search(r"\d+ ops in the graph -> \d+ needed -> \d+ primitives -> \d+ kernels", done.stdout)
    assert re.search(r"product +\[s0_0,128\] +MatMul AddV2 Relu", done.stdout)
    assert done.stdout.count("all native") == 3


def test_demo_of_convolutions() -> None:
    done = stepjit("demo", "--model", "cnn", "--epochs", "10")
    assert (done.returncode, done.stderr) == (0, "")
    accuracy = re.search(r"test accuracy +([\d.]+)%", done.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) >= 98
    assert re.search(r"product +\[s0_0,8,8,32\] +_Conv AddV2 Relu", done.stdout)
    assert done.stdout.count("all native") == 3


def test_demo_of_an_lstm() -> None:
    done = stepjit("demo", "--model", "lstm", "--epochs", "20")
    assert (done.returncode, done.stderr) == (0, "")
    accuracy = re.search(r"test accuracy +([\d.]+)%", done.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) >= 96
    assert re.search(r"while +\[s0_0,64\] +_While", done.stdout)
    assert re.search(r"product +\[s0_0,256\] +MatMul AddV2", done.stdout)
    assert done.stdout.count("all native") == 3


def test_the_same_seed_gives_the_same_result() -> None:
    first, second, other = (
        re.sub(r"[\d.]+ (?:s|ms|µs)\b", "", stepjit("demo", "--epochs", "2", "--seed", seed).stdout.partition("training")[0])
        for seed in ("5", "5", "6")
    )
    assert "accuracy" in first
    assert first == second != other


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("demo", "--epochs", "0"), ("demo", "--seed", "x"), ("demo", "more")])
def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...]) -> None:
    done = stepjit(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: stepjit" in done.stderr


def test_help_and_version() -> None:
    text = stepjit("--help").stdout
    for word in ("demo", "version", "make_callable", "STEPJIT_DUMP", "exit codes"):
        assert word in text
    assert re.match(r"stepjit \d+\.\d+\.\d+\n", stepjit("version").stdout)


def test_interrupt_ends_with_one_line() -> None:
    process = subprocess.Popen(
        [*STEPJIT, "demo", "--epochs", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("UCI")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "stepjit: interrupted\n")


def test_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" -m stepjit demo --epochs 1 | head -n 1', sys.executable],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("UCI")


def test_tour_of_the_readme_runs() -> None:
    tour = re.search(r"## A tour\n.*?```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert tour is not None
    done = subprocess.run([sys.executable, "-c", tour[1]], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "kernels" in done.stdout
    assert "CompileStats" in done.stdout
