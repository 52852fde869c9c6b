"""Entries of a cache folder as records. Reading them runs nothing, writes nothing and locks nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepjit_compiler import cache_key, store
from stepjit_runtime import cache_entry, cache_journal
from stepjit_runtime.cache_folder import FileInfo, Folder, Refused
from stepjit_runtime.disk_cache import SUFFIX, program_of
from stepjit_runtime.manifest import Manifest


@dataclass(frozen=True)
class FeedInfo:
    """A feed: its name in the graph, dtype, and extents; `s<feed>_<axis>` is any."""

    name: str
    dtype: str
    dims: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{self.dims}]"


@dataclass(frozen=True)
class EntryInfo:
    """What an entry's header tells, and what the journal knows of it."""

    key: str
    bytes: int
    used: float
    """When it was last used, in seconds since 1970."""
    problem: str = ""
    """Why the header can't be read, in one word; all below is empty then."""
    fetches: tuple[str, ...] = ()
    feeds: tuple[FeedInfo, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    """Ops of the graph, ops kept, nodes, kernels, host ops, bytes of object code."""
    compile_seconds: float = 0.0
    made: Mapping[str, Any] = field(default_factory=dict)
    """When, by which program, for which line of it."""
    made_of: Mapping[str, str] = field(default_factory=dict)
    """The key's entries but for the step."""
    hits: int = 0

    @property
    def name(self) -> str:
        return self.fetches[0] if self.fetches else "?"

    @property
    def is_helpers(self) -> bool:
        """Whether this is the code that all steps call, not a step."""
        return self.fetches == (store.SUPPORT,)


def entries(folder: Folder) -> list[EntryInfo]:
    """All entries, last used first."""
    hits = Counter(event.subject for event in cache_journal.events(folder) if event.what == "hit")
    found = [entry_of(folder, file, hits[file.name[: -len(SUFFIX)]]) for file in folder.files(SUFFIX)]
    return sorted(found, key=lambda entry: (-entry.used, entry.key))


def entry_of(folder: Folder, file: FileInfo, hits: int = 0) -> EntryInfo:
    """One entry, by its header alone."""
    key = file.name[: -len(SUFFIX)]
    try:
        header = _header(folder, file.name)
        return _info(key, file, header, hits)
    except Refused as refused:
        return EntryInfo(key, file.bytes, file.used, refused.reason, hits=hits)
    except (KeyError, TypeError, ValueError, AttributeError):
        return EntryInfo(key, file.bytes, file.used, "format", hits=hits)


def _header(folder: Folder, name: str) -> dict[str, Any]:
    size = cache_entry.HEADER_GUESS
    found = cache_entry.header_of(folder.read(name, size))
    if isinstance(found, int):
        found = cache_entry.header_of(folder.read(name, found))
    if isinstance(found, int):
        raise Refused("truncated", "the header ends beyond the file")
    return found


def _info(key: str, file: FileInfo, header: Mapping[str, Any], hits: int) -> EntryInfo:
    if header["key"] != key:
        raise Refused("key", "this is the entry of another key")
    return EntryInfo(
        key, file.bytes, file.used, "", tuple(map(str, header["fetches"])),
        tuple(FeedInfo(*map(str, feed)) for feed in header["feeds"]),
        {str(name): int(number) for name, number in header["counts"].items()},
        float(header["costs"]["compile_seconds"]), dict(header["made"]),
        {str(name): str(value) for name, value in header["entries"].items()}, hits,
    )  # fmt: skip


def is_stale(entry: EntryInfo, here: Mapping[str, str]) -> bool:
    """Whether this version of stepjit, LLVM, Python or numpy would never ask for the entry."""
    return any(
        entry.made_of.get(name) != value for name, value in here.items() if name not in ("features", "triple")
    )


def is_foreign(entry: EntryInfo, here: Mapping[str, str]) -> bool:
    """Whether it is code for another kind of machine, or for a CPU that can do what this one can't."""
    if entry.made_of.get("triple") != here["triple"]:
        return True
    return not set(entry.made_of.get("features", "").split(",")) <= set(here["features"].split(","))


# --- one entry, whole ---


@dataclass(frozen=True)
class EntryDetails:
    """An entry with its checked contents."""

    info: EntryInfo
    manifest: Manifest
    texts: Mapping[str, str]
    """The step's forms by the passes that made them; `step` is the text that the key is of."""
    object_code: bytes


def details(folder: Folder, key: str) -> EntryDetails:
    """The entry of a key; Refused when it is not as written."""
    file = folder.info(key + SUFFIX)
    header, sections = cache_entry.unpack(folder.read(file.name))
    program, _ = program_of(header, sections, key, {})
    try:
        info = _info(key, file, header, 0)
        texts = store.report(sections["report"]) if "report" in sections else {}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused("format", f"the entry lacks what is shown of it: {error!r}") from None
    return EntryDetails(info, program.manifest, texts, program.object_code)


def find_key(folder: Folder, start: str) -> str:
    """The one key that starts so; Refused (`absent`, `ambiguous`) when there are none or several."""
    found = sorted(file.name[: -len(SUFFIX)] for file in folder.files(SUFFIX) if file.name.startswith(start.lower()))
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused("absent", f"no key in {folder.path} starts with {start!r}")
    raise Refused("ambiguous", f"{len(found)} keys start with {start!r}: {', '.join(key[:12] for key in found[:5])}")


def check(folder: Folder, key: str) -> None:
    """Refused (`checksum`, `key`, ...) unless the entry is as written and its key is that of what it holds."""
    found = details(folder, key)
    text = found.texts.get("step")
    if text is not None and cache_key.content_key({"step": text, **found.info.made_of}) != key:
        raise Refused("key", "what the entry was made of gives another key")


# --- the journal ---


@dataclass(frozen=True)
class History:
    """What the journal tells of a cache since `since` (seconds since 1970; None: nothing is noted)."""

    since: float | None
    hits: int
    misses: Mapping[str, int]
    evictions: int
    compile_seconds: float
    saved_seconds: float
    load_seconds: float
    last_misses: Sequence[str]
    """Keys of steps that were not found, the last first."""


def history(folder: Folder) -> History:
    """The journal, summed up."""
    misses: Counter[str] = Counter()
    sums: defaultdict[str, int] = defaultdict(int)
    since, hits, evictions, last = None, 0, 0, []
    for event in cache_journal.events(folder):
        since = event.time if since is None else since
        for name, number in event.numbers.items():
            sums[name] += number
        if event.what == "hit":
            hits += 1
        elif event.what == "miss":
            misses[event.reason] += 1
            last.append(event.subject)
        elif event.subject.isdigit():
            evictions += int(event.subject)
    seconds = {name: sums[name] / 1e6 for name in ("compile", "saved", "load")}
    last.reverse()
    return History(
        since, hits, dict(misses), evictions, seconds["compile"], seconds["saved"], seconds["load"], last
    )  # fmt: skip


