"""The disk cache: what is stored comes back, and what is not as stored is a miss with a reason."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepjit_runtime import cache_entry, cache_journal, disk_cache
from stepjit_runtime.cache_folder import PARTIAL, PARTIAL_SECONDS, Folder, Refused
from stepjit_runtime.disk_cache import SUFFIX, DiskCache, read_program
from stepjit_runtime.executable import Program
from stepjit_runtime.manifest import Manifest, TypeText

ENTRIES = {"code": "c1", "features": "avx,fma", "triple": "x86_64", "python": "cpython-311", "llvm": "llvm 22"}


def key_of(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=20).hexdigest()


def program_of(number: int, size: int = 2000) -> Program:
    """A program that tells its number, not runnable."""
    constants = (np.arange(number % 700, dtype=np.float32), np.array([b"a", b"\0b"], object), np.array(number))
    manifest = Manifest(
        (TypeText("f32", ("s0_0", "4")),), (), (), (), constants, ("sj_pack",), (), (), (), "64", "5", {"nodes": number}
    )  # fmt: skip
    return Program(bytes([number % 251]) * size, manifest)


def put(cache: DiskCache, number: int, size: int = 2000) -> bool:
    header = {"entries": ENTRIES, "costs": {"compile_seconds": 0.25}}
    return cache.put(key_of(number), program_of(number, size), header, {"report": b"text"})


def get(cache: DiskCache, number: int) -> Program | None:
    return cache.get(key_of(number), {**ENTRIES, "step": "the text of the step"})


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(str(tmp_path / "programs"))


@pytest.fixture
def entry(cache: DiskCache) -> Path:
    """The file of program 7."""
    assert put(cache, 7)
    return Path(cache.path) / (key_of(7) + SUFFIX)


def test_what_is_put_comes_back(cache: DiskCache) -> None:
    for number in (0, 1, 699, 5000):
        assert get(cache, number) is None
        assert put(cache, number)
        found = DiskCache(cache.path).get(key_of(number), ENTRIES)
        assert found is not None
        assert (found.object_code, found.manifest) == (program_of(number).object_code, program_of(number).manifest)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.puts) == (0, {"absent": 4}, 4)
    assert get(cache, 1) is not None
    assert cache.stats().saved_seconds == 0.25


def test_the_second_of_two_writers_discards(cache: DiskCache, entry: Path) -> None:
    before = entry.read_bytes()
    assert not put(cache, 7)
    assert entry.read_bytes() == before
    assert os.listdir(cache.path).count(entry.name) == 1


def test_only_the_owner_can_read(cache: DiskCache, entry: Path) -> None:
    assert os.stat(cache.path).st_mode & 0o777 == 0o700
    for name in os.listdir(cache.path):
        assert os.stat(os.path.join(cache.path, name)).st_mode & 0o777 == 0o600


# --- what is not as stored ---


def _truncate(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes()[:-1])


def _empty(entry: Path) -> None:
    entry.write_bytes(b"")


def _flip(entry: Path) -> None:
    data = bytearray(entry.read_bytes())
    data[-100] ^= 4
    entry.write_bytes(data)


def _swap(entry: Path) -> None:
    other = DiskCache(str(entry.parent))
    put(other, 8)
    os.replace(entry.parent / (key_of(8) + SUFFIX), entry)


def _link(entry: Path) -> None:
    entry.rename(entry.with_suffix(".moved"))
    entry.symlink_to(entry.with_suffix(".moved"))


def _writable(entry: Path) -> None:
    entry.chmod(0o620)


def _folder(entry: Path) -> None:
    entry.unlink()
    entry.mkdir()


def _pipe(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry, 0o600)


def _older_format(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes().replace(cache_entry.MAGIC, b"stepjit\x00"))


FLAWS = {
    "truncated, 1 byte": (_truncate, "checksum"), "empty": (_empty, "truncated"), "bit flipped": (_flip, "checksum"),
    "swapped": (_swap, "key"), "symbolic link": (_link, "link"), "writable by others": (_writable, "mode"),
    "a folder": (_folder, "kind"), "a pipe": (_pipe, "kind"), "older format": (_older_format, "format"),
}  # fmt: skip


@pytest.mark.parametrize("flaw", FLAWS)
def test_flawed_entries_are_misses_with_a_reason(flaw: str, cache: DiskCache, entry: Path) -> None:
    damage, reason = FLAWS[flaw]
    damage(entry)
    assert get(cache, 7) is None
    assert cache.stats().misses == {reason: 1}


@pytest.mark.parametrize("flaw", [flaw for flaw in FLAWS if flaw != "a folder"])
def test_flawed_entries_give_way_to_new_ones(flaw: str, cache: DiskCache, entry: Path) -> None:
    FLAWS[flaw][0](entry)
    assert get(cache, 7) is None
    assert put(cache, 7)
    assert get(cache, 7) is not None
    assert entry.is_file()
    assert not entry.is_symlink()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("features", "cpu"), ("triple", "cpu"), ("python", "abi"), ("code", "version"), ("llvm", "version")],
)
def test_programs_made_for_something_else_are_not_used(
    name: str, reason: str, cache: DiskCache, entry: Path
) -> None:
    assert cache.get(key_of(7), {**ENTRIES, name: "another"}) is None
    assert cache.stats().misses == {reason: 1}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_entries_of_others_are_not_used(cache: DiskCache, entry: Path) -> None:
    os.chown(entry, 12345, -1)
    assert get(cache, 7) is None
    assert cache.stats().misses == {"owner": 1}


def test_any_change_of_an_entry_is_found(cache: DiskCache, entry: Path) -> None:
    whole, rng = entry.read_bytes(), random.Random(1)
    for _ in range(1500):
        data = bytearray(whole)
        kind = rng.randrange(4)
        at = rng.randrange(len(data))
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.randrange(1, 50)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 50))
        else:
            data[at : at + 50] = rng.randbytes(len(data[at : at + 50]))
        if data != whole:
            with pytest.raises(Refused):
                read_program(bytes(data), key_of(7), ENTRIES)


def test_a_header_with_a_right_checksum_may_still_be_wrong() -> None:
    text, data = program_of(600).manifest.pack()
    good = {"key": key_of(7), "entries": ENTRIES, "costs": {"compile_seconds": 1.0}}
    sections = {"manifest": text, "data": data, "object": b"x"}
    read_program(b"".join(cache_entry.pack(good, sections)), key_of(7), ENTRIES)
    bad: list[tuple[dict[str, Any], dict[str, bytes]]] = [
        ({**good, "entries": 3}, sections), ({**good, "costs": None}, sections), (good, {"object": b"x"}),
        (good, {**sections, "manifest": b"[]"}), (good, {**sections, "manifest": b"\xff"}),
        (good, {**sections, "data": b""}), ({**good, "costs": {"a": "b"}}, sections),
    ]  # fmt: skip
    for header, parts in bad:
        with pytest.raises(Refused):
            read_program(b"".join(cache_entry.pack(header, parts)), key_of(7), ENTRIES)


def test_headers_can_be_read_alone(entry: Path) -> None:
    whole = entry.read_bytes()
    found = cache_entry.header_of(whole[: cache_entry.HEADER_GUESS])
    assert isinstance(found, dict)
    assert found["key"] == key_of(7)
    needed = cache_entry.header_of(whole[:60])
    assert isinstance(needed, int)
    assert cache_entry.header_of(whole[:needed]) == found


# --- folders ---


def _no_folder(path: Path) -> None:
    path.write_text("a file")


def _foreign_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def _linked_folder(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize("make", [_no_folder, _foreign_folder, _linked_folder])
def test_unusable_folders_warn_once(make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / "programs")
    cache = DiskCache(str(tmp_path / "programs"))
    with caplog.at_level(logging.WARNING, "stepjit"):
        for number in range(3):
            assert get(cache, number) is None
            assert not put(cache, number)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "in memory only" in caplog.text
    assert str(tmp_path / "programs") in caplog.text
    assert not list(tmp_path.rglob("*" + SUFFIX))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    # A limit of file sizes stands for a disk that is full: writes end early, then fail.
    code = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from runtime.test_disk_cache import DiskCache, get, put
cache = DiskCache({str(tmp_path / "c")!r})
assert put(cache, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
assert not put(cache, 2) and not put(cache, 3)
assert get(cache, 1) is not None and get(cache, 2) is None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("in memory only") == 1
    assert sorted(name for name in os.listdir(tmp_path / "c") if name != cache_journal.NAME) == [key_of(1) + SUFFIX]


def test_a_read_only_folder_is_read(cache: DiskCache, entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **named: Any) -> None:
        raise PermissionError(13, "Permission denied")

    other = DiskCache(cache.path)
    monkeypatch.setattr(Folder, "write", refuse)
    monkeypatch.setattr(Folder, "append", refuse)
    assert not put(other, 8)
    assert get(other, 7) is not None


# --- bounds ---


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = DiskCache(str(tmp_path / "c"), limit=400_000)
    for number in range(20):
        put(cache, number, size=10_000)
        os.utime(tmp_path / "c" / (key_of(number) + SUFFIX), (number, number))
    get(cache, 3)
    gone = cache.trim(100_000)
    left = {file.name for file in Folder(cache.path).files(SUFFIX)}
    assert gone == 20 - len(left) == cache.stats().evictions
    assert key_of(3) + SUFFIX in left
    assert sum(file.bytes for file in Folder(cache.path).files(SUFFIX)) <= 100_000
    assert left == {key_of(number) + SUFFIX for number in (3, *range(20 - len(left) + 1, 20))}


def test_a_cache_stays_within_its_limit(tmp_path: Path) -> None:
    cache = DiskCache(str(tmp_path / "c"), limit=100_000)
    for number in range(100):
        put(cache, number, size=4000)
        assert sum(file.bytes for file in Folder(cache.path).files(SUFFIX)) <= 110_000
    assert get(cache, 99) is not None
    assert not put(cache, 200, size=200_000)


def test_leftovers_of_killed_writers_are_removed(cache: DiskCache, entry: Path) -> None:
    old, new = Path(cache.path) / (PARTIAL + "1"), Path(cache.path) / (PARTIAL + "2")
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    late = time.time() - PARTIAL_SECONDS - 5
    os.utime(old, (late, late))
    cache.trim()
    assert (old.exists(), new.exists(), entry.exists()) == (False, True, True)


# --- many at a time ---


def test_threads_share_a_cache(cache: DiskCache) -> None:
    wrong = []

    def work(seed: int) -> None:
        for number in random.Random(seed).sample(range(20), 20):
            found = get(cache, number)
            if found is None:
                put(cache, number)
            elif found.object_code != program_of(number).object_code:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.stats().misses.keys() == {"absent"}


WRITER = """
import random, sys
sys.path[:0] = {path!r}
from runtime.test_disk_cache import DiskCache, get, key_of, program_of, put
cache = DiskCache({folder!r}, limit=2_000_000)
rng = random.Random({seed})
print("on", flush=True)
while True:
    number = rng.randrange(60)
    found = get(cache, number)
    if found is None:
        put(cache, number, size=30_000)
    elif found.object_code != program_of(number, 30_000).object_code:
        print("wrong", number, flush=True)
"""


def test_killed_writers_leave_nothing_that_loads_wrong(tmp_path: Path) -> None:
    folder = str(tmp_path / "c")
    for seed in range(10):
        code = WRITER.format(path=sys.path, folder=folder, seed=seed)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        time.sleep(0.002 * seed)
        process.send_signal(signal.SIGKILL)
        assert process.communicate()[0] == ""
    cache = DiskCache(folder)
    for file in Folder(folder).files(SUFFIX):
        assert cache.get(file.name[: -len(SUFFIX)], ENTRIES) is not None, file
    assert not cache.stats().misses


# --- the journal ---


def test_what_happened_is_noted(cache: DiskCache, entry: Path) -> None:
    get(cache, 7)
    _flip(entry)
    get(cache, 7)
    put(cache, 7)
    cache.trim(0)
    found = list(cache_journal.events(Folder(cache.path)))
    assert [(event.what, event.reason) for event in found] == [
        ("miss", "absent"), ("hit", ""), ("miss", "checksum"), ("evict", ""),
    ]  # fmt: skip
    assert found[1].subject == key_of(7)
    assert found[1].numbers["saved"] == 250_000
    assert found[0].numbers["compile"] == 250_000
    assert abs(found[0].time - time.time()) < 60


def test_the_journal_is_bounded_and_may_be_damaged(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_journal, "MOST_BYTES", 2000)
    for number in range(100):
        put(cache, number, size=10)
    folder = Folder(cache.path)
    assert len(folder.read("journal")) + len(folder.read("journal.old")) < 5000
    with open(os.path.join(cache.path, "journal"), "ab") as file:
        file.write(b"\xff\xfe half a line hit\nx y z\n1.0 hit\n" + b"9.5 hit abc load=1 saved=z\n8.5 hit abc load=1\n")
    events = list(cache_journal.events(folder))
    assert events[-1] == cache_journal.Event(8.5, "hit", "abc", "", {"load": 1})
    assert {event.what for event in events} <= {"hit", "miss", "evict"}


def test_caches_are_found_by_folder(tmp_path: Path) -> None:
    assert disk_cache.at(str(tmp_path)) is disk_cache.at(str(tmp_path))
    assert disk_cache.at(str(tmp_path), 10) is not disk_cache.at(str(tmp_path))
    assert json.dumps(disk_cache.default_path())


def test_a_deleted_folder_is_made_again(cache: DiskCache, entry: Path) -> None:
    entry.unlink()
    for name in os.listdir(cache.path):
        os.unlink(os.path.join(cache.path, name))
    os.rmdir(cache.path)
    assert get(cache, 7) is None
    assert put(cache, 7)
    assert get(cache, 7) is not None
    assert os.stat(cache.path).st_mode & 0o777 == 0o700


def test_entries_larger_than_the_cache_are_not_read(cache: DiskCache, entry: Path) -> None:
    with open(entry, "r+b") as file:
        file.truncate(1 << 40)
    assert get(cache, 7) is None
    assert cache.stats().misses == {"size": 1}


def test_what_can_not_be_linked_gives_way(cache: DiskCache, entry: Path) -> None:
    assert get(cache, 7) is not None
    cache.refuse(key_of(7), "link", "it is damaged")
    assert (cache.stats().hits, cache.stats().misses) == (0, {"link": 1})
    assert put(cache, 7)


def test_a_link_for_a_journal_is_not_followed(cache: DiskCache, entry: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    journal = Path(cache.path) / cache_journal.NAME
    journal.unlink()
    journal.symlink_to(victim)
    assert get(cache, 7) is not None
    assert put(cache, 9)
    assert victim.read_text() == "untouched"
    assert list(cache_journal.events(Folder(cache.path))) == []
