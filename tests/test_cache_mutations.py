"""Entries of real steps, changed: what is damaged is a miss, and the next run has the right results all the same."""

from __future__ import annotations

import gc
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit_compiler.options import options
from stepjit_runtime import cache_entry, memory_cache
from stepjit_runtime.cache_folder import Refused
from stepjit_runtime.disk_cache import SUFFIX, read_program
from stepjit_runtime.link import LinkError, link

Sections = dict[str, bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with options(cache=str(tmp_path / "c")):
        memory_cache.CACHE.clear()
        yield tmp_path / "c"
        memory_cache.CACHE.clear()


def results() -> list[Any]:
    """Of steps with a variable, a loop, a large constant, and an op that Python runs."""
    memory_cache.CACHE.clear()
    gc.collect()  # code in use would be found in memory
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        w = tf.get_variable("w", initializer=np.arange(1600, dtype=np.float32).reshape(4, 400) / 1000)
        total = tf.reduce_sum(tf.tanh(tf.matmul(x, w)))
        turned = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 0.5), [tf.constant(0), x])[1]
        text = tf.string_join([tf.as_string(tf.constant(3)), tf.constant("!")])
        session.run(w.initializer)
        fed = {x: np.ones((2, 4), np.float32)}
        found = [session.run(each, fed) for each in (total, turned, text, session.graph.get_tensor_by_name("w:0"))]
        stats = session.cache_stats()
    return [[np.asarray(each).tolist() for each in found], stats.compiled]


def mutated(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(len(found))
        change = rng.randrange(4)
        if change == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del found[at : at + rng.randrange(1, 50)]
        elif change == 2:
            found[at:at] = rng.choice((b"1", b",", b"null", b'"x"', b"[", rng.randbytes(9)))
        else:
            found[at : at + 4] = rng.randbytes(4)
        found = found or bytearray(b"\0")
    return bytes(found)


def test_damaged_entries_are_compiled_again(folder: Path) -> None:
    want, compiled = results()
    assert compiled > 3
    assert results() == [want, 0]
    rng = random.Random(3)
    for _ in range(4):
        for file in folder.glob("*" + SUFFIX):
            file.write_bytes(mutated(file.read_bytes(), rng))
        assert results()[0] == want
        assert results() == [want, 0]


def test_code_that_can_not_be_linked_is_compiled_again(folder: Path) -> None:
    want, compiled = results()
    for file in folder.glob("*" + SUFFIX):
        header, sections = _opened(file.read_bytes())
        sections["object"] = sections["object"][:300]
        file.write_bytes(b"".join(cache_entry.pack(header, sections)))
    assert results() == [want, compiled]
    assert results() == [want, 0]


def test_changed_entries_with_a_right_checksum_are_refused_or_make_sense(folder: Path) -> None:
    results()
    rng, found = random.Random(4), Counter[str]()
    entries = [file.read_bytes() for file in sorted(folder.glob("*" + SUFFIX))]
    for _ in range(600):
        header, sections = _opened(rng.choice(entries))
        key, made_of, part = header["key"], header["entries"], rng.choice(("header", "manifest", "data", "object"))
        if part == "header":
            try:
                header = json.loads(mutated(json.dumps(header).encode(), rng))
            except ValueError:
                continue
        elif sections[part]:
            sections[part] = mutated(sections[part], rng)
        try:
            program, _ = read_program(b"".join(cache_entry.pack(header, sections)), key, made_of)
            link(program.object_code, program.manifest.imports, program.stored)
            found["links"] += 1
        except (Refused, LinkError) as error:
            found[type(error).__name__] += 1
        except TypeError:
            assert not isinstance(header, dict)  # a header that `pack` does not take
    assert min(found.values()) > 30
    assert len(found) == 3


def _opened(data: bytes) -> tuple[Any, Sections]:
    header, sections = cache_entry.unpack(data)
    del header["sections"]
    return header, {name: bytes(section) for name, section in sections.items()}
