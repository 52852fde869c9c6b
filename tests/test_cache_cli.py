"""`stepjit cache`: what it prints, its exit codes, and that looking changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.dom.minidom
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit.cache.differences import differences
from stepjit.cache.entries import details, entries, history
from stepjit.cli import columns, main
from stepjit_compiler import cache_key
from stepjit_compiler.options import options
from stepjit_runtime import cache_entry, elf, link, memory_cache
from stepjit_runtime.cache_folder import Folder
from stepjit_runtime.disk_cache import SUFFIX


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """A cache that steps are compiled into meanwhile."""
    path = str(tmp_path / "steps")
    link.address("sj_pack")  # the helpers are in memory, so that no entry is made of them
    with options(cache=path):
        memory_cache.CACHE.clear()
        yield path
    memory_cache.CACHE.clear()


def model(
    dtype: Any = tf.float32,
    shape: Any = (None, 4),
    units: int = 3,
    fetch: tuple[str, ...] = ("loss",),
    rate: float = 2.0,
    transpose: bool = False,
    activation: Any = tf.nn.relu,
    swapped: bool = False,
    more: bool = False,
    axis: int = 1,
    scope: str = "dense",
) -> None:
    """Run one step of a small model."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(dtype, list(shape), name="x")
        with tf.variable_scope(scope):
            initial = np.zeros((units, 4) if transpose else (4, units), dtype.as_numpy_dtype)
            w = tf.get_variable("w", initializer=initial)
        hidden = activation(tf.matmul(x, w, transpose_b=transpose, name="product"), name="hidden")
        scale = tf.constant(rate, dtype, name="rate")
        hidden = tf.multiply(*((hidden, scale) if swapped else (scale, hidden)), name="scaled")
        if more:
            hidden = tf.tanh(hidden, name="extra")
        made = {"loss": tf.reduce_sum(hidden, axis=axis, name="loss"), "other": tf.reduce_mean(hidden, name="other")}
        session.run(w.initializer)
        session.run([made[name] for name in fetch], {x: np.zeros([3 if n is None else n for n in shape])})


def newest(path: str) -> str:
    return history(Folder(path, create=False)).last_misses[0]


def texts_of_change(path: str, change: Callable[[], None]) -> list[str]:
    """What `explain` says between the model and the changed one."""
    model()
    before = newest(path)
    change()
    now, opened = newest(path), Folder(path, create=False)
    assert now != before
    return list(map(str, differences(details(opened, before), details(opened, now))))


CAUSES: dict[str, tuple[dict[str, Any], str]] = {
    "dtype": ({"dtype": tf.float64}, "feed 'x:0': float64 now, float32 before"),
    "rank": ({"shape": (None, 4), "fetch": ("other", "loss")}, "fetches: 'other:0' is new"),
    "static extent": ({"shape": (7, 4)}, "feed 'x:0': shape [7,4] now, [any,4] before"),
    "variable's shape": ({"units": 5}, "variable 'dense/w': f32[4,5] now, f32[4,3] before"),
    "another fetch": ({"fetch": ("loss", "other")}, "fetches: 'other:0' is new"),
    "constant": ({"rate": 3.0}, "constant 'rate': 3.0 now, 2.0 before"),
    "op type": ({"activation": tf.nn.tanh}, "op 'hidden': Tanh now, Relu before"),
    "order of inputs": ({"swapped": True}, "op 'scaled': input 0 is 'hidden:0' now, 'rate:0' before"),
    "another op": ({"more": True}, "op 'extra' is new: Tanh"),
    "axis": ({"axis": 0}, "constant 'loss/reduction_indices': 0 now, 1 before"),
}  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES)
def test_explain_names_what_changed(cause: str, folder: str) -> None:
    changes, want = CAUSES[cause]
    assert texts_of_change(folder, lambda: model(**changes))[0] == want


def test_explain_names_attrs(folder: str) -> None:
    found = texts_of_change(folder, lambda: model(transpose=True, units=4))
    assert "op 'product': attr transpose_b: true now, false before" in found


def test_explain_names_the_environment(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = dict(cache_key.environment())
    here["features"] = here["features"].replace("fma", "avx999")
    here["llvm"] = "llvm 99.0.0"

    def change() -> None:
        monkeypatch.setattr(cache_key, "_environment", here)
        memory_cache.CACHE.clear()
        model()

    found = texts_of_change(folder, change)
    assert found[0] == "CPU features: avx999 only now; fma only before"
    assert found[1].startswith("LLVM: llvm 99.0.0 now, llvm ")
    assert len(found) == 2


def test_names_alone_make_no_difference(folder: str) -> None:
    model()
    before = newest(folder)
    model(scope="other")
    assert newest(folder) == before
    assert len(entries(Folder(folder))) == 2  # the step and the initialiser


def test_last_miss_is_set_against_the_nearest(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model(activation=tf.nn.tanh, fetch=("other",))
    model()
    model(rate=5.0)
    assert main(["cache", "explain", "--last-miss", "--folder", folder]) == 0
    out = capsys.readouterr().out
    assert "constant 'rate': 5.0 now, 2.0 before" in out
    assert "Tanh" not in out
    assert "test_cache_cli.py:" in out


# --- the commands ---


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["cache", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_and_stats(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    memory_cache.CACHE.clear()
    model()
    code, out, _ = run(capsys, "list", "--folder", folder)
    assert code == 0
    row = next(line for line in out.splitlines() if "loss:0" in line)
    assert newest(folder)[:12] in row or "x:0 float32[s0_0,4]" in row
    found = json.loads(run(capsys, "list", "--json", "--folder", folder, "--grep", "loss")[1])
    assert len(found) == 1
    assert found[0]["hits"] == 1
    assert found[0]["counts"]["ops"] == 8
    stats = json.loads(run(capsys, "stats", "--json", "--folder", folder)[1])
    assert (stats["entries"], stats["hits"], stats["misses"]) == (2, 2, {"absent": 2})
    assert stats["saved_seconds"] > 0
    assert "2 of 4 (50 %)" in run(capsys, "stats", "--folder", folder)[1]
    assert run(capsys, "list", "--stale", "--folder", folder)[1] == "no entries\n"
    assert run(capsys, "list", "--foreign", "--folder", folder)[1] == "no entries\n"


@pytest.mark.parametrize("sort", ["used", "name", "bytes", "compile", "hits", "made"])
def test_list_sorts(sort: str, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    found = json.loads(run(capsys, "list", "--json", "--sort", sort, "--folder", folder)[1])
    assert len(found) == 2
    if sort == "bytes":
        assert [each["bytes"] for each in found] == sorted((each["bytes"] for each in found), reverse=True)


def test_show(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    key = next(entry.key for entry in entries(Folder(folder)) if entry.name == "loss:0")
    code, out, _ = run(capsys, "show", key[:8], "--folder", folder)
    assert code == 0
    for text in (key, "x:0 float32[s0_0,4]", "s0_0: axis 0 of feed 0", "variable float32[4,3]  read", "MatMul Relu"):
        assert text in out
    assert "%0 = _Feed {index=0} : f32[s0_0,4]" in run(capsys, "show", key, "--step", "--folder", folder)[1]
    assert "define ptr @step" in run(capsys, "show", key, "--ir", "--folder", folder)[1]
    assert "step:" in run(capsys, "show", key, "--asm", "--folder", folder)[1]
    dot = run(capsys, "show", key, "--dot", "--folder", folder)[1]
    assert '"product" -> "hidden"' in dot
    svg = run(capsys, "show", key, "--svg", "--folder", folder)[1]
    assert len(xml.dom.minidom.parseString(svg).getElementsByTagName("rect")) == dot.count("label=")
    assert json.loads(run(capsys, "show", key, "--json", "--folder", folder)[1])["fetches"] == ["loss:0"]


def test_wrong_keys_and_folders(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    assert run(capsys, "show", "xyz", "--folder", folder)[0] == 1
    assert "2 keys start with ''" in run(capsys, "show", "", "--folder", folder)[2]
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    code, _, err = run(capsys, "list", "--folder", str(tmp_path / "open"))
    assert code == 1
    assert "may be written by others" in err
    assert run(capsys, "explain", "--folder", folder)[0] == 2
    assert run(capsys, "prune", "--folder", folder)[0] == 2
    for arguments in (["list", "--sort", "luck"], ["prune", "--max-size", "big"], ["prune", "--older-than", "-3d"], []):
        with pytest.raises(SystemExit) as error:
            main(["cache", *arguments])
        assert error.value.code == 2


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "none")
    for command in ("list", "stats", "verify", "clear", "doctor", "path"):
        assert run(capsys, command, "--folder", path)[0] == 0
    assert not os.path.exists(path)


def test_verify_finds_and_deletes_bad_entries(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    assert run(capsys, "verify", "--folder", folder)[:2] == (0, "2 entries, 0 bad\n")
    victims = sorted(Path(folder).glob("*" + SUFFIX))
    victims[0].write_bytes(victims[0].read_bytes()[:-5])
    # Sound, but not what its key is of.
    header, sections = cache_entry.unpack(victims[1].read_bytes())
    header["entries"]["code"] = "another"
    del header["sections"]
    parts = {name: bytes(data) for name, data in sections.items()}
    victims[1].write_bytes(b"".join(cache_entry.pack(header, parts)))
    code, out, _ = run(capsys, "verify", "--folder", folder)
    assert code == 1
    assert "2 entries, 2 bad" in out
    assert "checksum" in out
    assert "gives another key" in out
    assert run(capsys, "verify", "--fix", "--folder", folder)[0] == 0
    assert run(capsys, "verify", "--folder", folder)[1] == "0 entries, 0 bad\n"


def test_prune_and_clear(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    for entry in entries(Folder(folder)):
        if not entry.feeds:
            os.utime(Path(folder) / (entry.key + SUFFIX), (1, 1))
    assert "would delete 1 entries" in run(capsys, "prune", "--older-than", "30d", "--dry-run", "--folder", folder)[1]
    assert len(entries(Folder(folder))) == 2
    assert "deleted 1 entries" in run(capsys, "prune", "--older-than", "30d", "--folder", folder)[1]
    assert "deleted 0 entries" in run(capsys, "prune", "--stale", "--foreign", "--folder", folder)[1]
    assert "deleted 1 entries" in run(capsys, "prune", "--max-size", "1kB", "--folder", folder)[1]
    model(units=6)
    run(capsys, "clear", "--folder", folder)
    assert os.listdir(folder) == []


def test_looking_changes_nothing(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    model(rate=7.0)
    key = newest(folder)

    def state() -> list[Any]:
        found = []
        for name in sorted(os.listdir(folder)):
            info = os.stat(os.path.join(folder, name))
            found.append((name, info.st_size, info.st_mtime_ns, Path(folder, name).read_bytes()))
        return found

    before = state()
    for arguments in (
        ["list"], ["stats"], ["show", key], ["show", key, "--asm"], ["explain", "--last-miss"], ["verify"], ["doctor"],
        ["path"], ["prune", "--max-size", "0", "--dry-run"], ["clear", "--dry-run"],
    ):  # fmt: skip
        assert run(capsys, *arguments, "--folder", folder)[0] == 0
    assert state() == before


def test_warm(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        tf.nn.softmax(tf.matmul(x, np.ones((4, 3), np.float32)), name="y")
        (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    arguments = ["warm", str(tmp_path / "g.pb"), "--fetch", "y:0", "--feed", "x:0", "--folder", folder, "--json"]
    first, second = (json.loads(run(capsys, *arguments)[1]) for _ in range(2))
    memory_cache.CACHE.clear()
    third = json.loads(run(capsys, *arguments)[1])
    assert [each["compiled"] for each in (first, second, third)] == [True, False, False]
    assert first["key"] == third["key"]
    for wrong, code in (
        (["--fetch", "z:0"], 1), (["--fetch", "y:0", "--feed", "x:0=a"], 2), (["--fetch", "y:0", "--feed", "x:0=3"], 1),
        (["--fetch", "y:0"], 1),
    ):  # fmt: skip
        assert run(capsys, "warm", str(tmp_path / "g.pb"), *wrong, "--folder", folder)[0] == code
    (tmp_path / "bad.pb").write_bytes(b"\x01\x02 no graph")
    assert run(capsys, "warm", str(tmp_path / "bad.pb"), "--fetch", "y:0", "--folder", folder)[0] == 1
    assert run(capsys, "warm", str(tmp_path / "none.pb"), "--fetch", "y:0", "--folder", folder)[0] == 1


def test_doctor_tells_what_is_wrong(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    model()
    assert not json.loads(run(capsys, "doctor", "--json", "--folder", folder)[1])["problems"]
    entry = next(Path(folder).glob("*" + SUFFIX))
    entry.write_bytes(b"x")
    code, out, _ = run(capsys, "doctor", "--folder", folder)
    assert code == 1
    assert "1 entries can't be read (truncated)" in out
    assert json.loads(run(capsys, "doctor", "--json", "--folder", folder)[1])["problems"]


def test_a_narrow_terminal_shows_fewer_columns(capsys: pytest.CaptureFixture[str]) -> None:
    heads, rows = ["key", "name", "made by"], [["1a2b3c4d5e6f", "x" * 40, "train.py"]]
    assert columns._fitting(heads, rows, ["made by"], 80) == [0, 1, 2]
    assert columns._fitting(heads, rows, ["made by"], 45) == [0, 1]
    columns.print_table(heads, rows, spare=["made by"])
    assert capsys.readouterr().out.splitlines()[1].split() == rows[0]


def test_a_closed_pipe_is_no_error(folder: str) -> None:
    model()
    command = f"set -o pipefail; {sys.executable} -m stepjit cache list --json --folder {folder} | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[", "")


def test_explanations_name_what_is_checked() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = (tf.placeholder(tf.float32, [None], name=name) for name in "xy")
        step = session.make_callable(tf.tensordot(x, y, 1), [x, y])
        step(np.ones(3), np.ones(3))
        report = step.explain().programs[0]
    assert report.guards == ("s0_0 = s1_0",)
    assert "guards s0_0 = s1_0" in str(report)


def test_the_eighth_variant_warns_and_names_what_varies(caplog: pytest.LogCaptureFixture) -> None:
    with tf.Graph().as_default(), tf.Session() as session, caplog.at_level("WARNING", "tensorflow"):
        x = tf.placeholder(tf.float32, [None, None, None], name="x")
        y = tf.reduce_sum(x, 1, name="y")
        for number in range(8):
            assert caplog.text == ""
            session.run(y, {x: np.ones([1 + (number >> bit & 1) for bit in range(3)])})
    assert "for ['y:0'] were compiled; what varies: feed 'x:0': [1,1,1], [?,1,1], [1,?,1]" in caplog.text


# --- across processes ---

STEP = """
import sys
import numpy as np
import stepjit.compat.v1 as tf
x = tf.placeholder(tf.float32, [None, 4], name="x")
w = tf.get_variable("w", initializer=np.arange(12, dtype=np.float32).reshape(4, 3))
loss = tf.reduce_sum(tf.nn.softmax(tf.matmul(x, w)) * float(sys.argv[1]), name="loss")
session = tf.Session()
session.run(w.initializer)
out = session.run(loss, {x: np.ones((2, 4))})
stats = session.cache_stats()
print(float(out), stats.compiled, stats.from_disk, "llvmlite.binding" in sys.modules)
"""


def step(folder: str, argument: str = "2.0", cwd: str | None = None, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", STEP, argument], capture_output=True, text=True, check=True, timeout=120, cwd=cwd,
        env={**os.environ, "STEPJIT_CACHE": folder, **environment},
    )  # fmt: skip
    return done.stdout.split() + done.stderr.splitlines()


def test_the_next_process_loads_what_this_one_compiled(tmp_path: Path) -> None:
    folder = str(tmp_path / "c")
    assert step(folder)[:3] == ["4.0", "2", "0"]
    # Where the own loader works, LLVM is not even loaded.
    assert step(folder, PYTHONHASHSEED="7")[:4] == ["4.0", "0", "2", str(not elf.is_known())]
    assert step(folder, cwd=str(tmp_path), PYTHONHASHSEED="8")[:3] == ["4.0", "0", "2"]
    assert step(folder, "4.0")[:3] == ["8.0", "1", "1"]
    for file in Path(folder).glob("*" + SUFFIX):
        file.write_bytes(file.read_bytes()[:-1])
    assert step(folder)[:3] == ["4.0", "2", "0"]
    logged = step(folder, STEPJIT_LOG="compile,cache")
    assert len(logged) == 4 + 2
    assert "stepjit cache " in logged[-1]


def test_many_processes_at_once(tmp_path: Path) -> None:
    folder = str(tmp_path / "c")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STEP, str(k % 3)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "STEPJIT_CACHE": folder},
        )
        for k in range(6)
    ]  # fmt: skip
    for k, process in enumerate(processes):
        out, err = process.communicate(timeout=120)
        assert (out.split()[0], err) == (str(2.0 * (k % 3)), "")
    assert main(["cache", "verify", "--folder", folder]) == 0
