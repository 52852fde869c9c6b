"""What the `stepjit cache` commands do. Each returns an exit code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from stepjit.cache import entries as entries_
from stepjit.cache.differences import Difference, differences, nearness
from stepjit.cache.entries import EntryDetails, EntryInfo, entries, history
from stepjit.cli.columns import date, print_table, size, span
from stepjit_compiler import store
from stepjit_compiler.cache_key import environment
from stepjit_compiler.options import current
from stepjit_runtime import cache_journal
from stepjit_runtime.cache_folder import PARTIAL, Folder, Refused
from stepjit_runtime.disk_cache import SUFFIX

NEAREST_LOOKED_AT = 24
"""Entries compared whole, of those that are nearest by their headers."""


def run(options: argparse.Namespace) -> int:
    """Run the chosen command; what is wrong with the folder or a key is told in one line, exit code 1."""
    try:
        return COMMANDS[options.command](options)
    except Refused as refused:
        return _failed(options, refused.reason, str(refused))
    except BrokenPipeError:
        raise  # whoever reads has seen enough
    except OSError as error:
        return _failed(options, "system", f"{error.filename or folder_path(options)}: {error.strerror}")


def _failed(options: argparse.Namespace, reason: str, text: str) -> int:
    if options.json:
        print_json({"error": reason, "message": text})
    else:
        print(f"stepjit cache {options.command}: {text}", file=sys.stderr)
    return 1


def folder_path(options: argparse.Namespace) -> str:
    """The folder in question."""
    path = store.folder(options.folder or current().cache)
    if path is None:
        raise Refused("off", "STEPJIT_CACHE says that there is no cache; --folder names one")
    return path


def _open(options: argparse.Namespace) -> Folder:
    return Folder(folder_path(options), create=False)


def _open_or_empty(options: argparse.Namespace) -> Folder | None:
    """The folder; None while there is none yet, which is as good as an empty one."""
    try:
        return _open(options)
    except Refused as refused:
        if refused.reason == "absent":
            return None
        raise


def print_json(value: Any) -> None:
    """Print for programs."""
    print(json.dumps(value, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} can't be printed as JSON")


# --- path, stats, list ---


def _path(options: argparse.Namespace) -> int:
    path = folder_path(options)
    if options.json:
        print_json({"path": path, "exists": os.path.isdir(path)})
    else:
        print(path)
    return 0


def _stats(options: argparse.Namespace) -> int:
    folder = _open_or_empty(options)
    found = [] if folder is None else entries(folder)
    told = entries_.History(None, 0, {}, 0, 0.0, 0.0, 0.0, ()) if folder is None else history(folder)
    total, limit = sum(entry.bytes for entry in found), current().cache_bytes
    report = {
        "path": folder_path(options), "entries": len(found), "bad_entries": sum(bool(e.problem) for e in found),
        "bytes": total, "limit": limit, "since": told.since, "hits": told.hits, "misses": dict(told.misses),
        "evictions": told.evictions, "compile_seconds": told.compile_seconds,
        "saved_seconds": told.saved_seconds, "load_seconds": told.load_seconds,
    }  # fmt: skip
    if options.json:
        print_json(report)
        return 0
    print(f"folder      {report['path']}")
    print(f"entries     {len(found)}, {size(total)} of {size(limit)}")
    if told.since is None:
        print("journal     empty")
        return 0
    missed = ", ".join(f"{count} {reason}" for reason, count in sorted(told.misses.items(), key=lambda m: -m[1]))
    asked = told.hits + sum(told.misses.values())
    print(f"journal     since {date(told.since)}")
    print(f"hits        {told.hits} of {asked} ({100 * told.hits / max(1, asked):.0f} %)")
    print(f"misses      {missed or 'none'}")
    print(f"evictions   {told.evictions}")
    print(f"compiling   {span(told.compile_seconds)} spent, {span(told.saved_seconds)} saved")
    print(f"loading     {span(told.load_seconds)}, {span(told.load_seconds / max(1, told.hits))} each")
    return 0


_SORT: dict[str, Callable[[EntryInfo], Any]] = {
    "used": lambda entry: -entry.used, "name": lambda entry: entry.name, "bytes": lambda entry: -entry.bytes,
    "compile": lambda entry: -entry.compile_seconds, "hits": lambda entry: -entry.hits,
    "made": lambda entry: -float(entry.made.get("time", 0)),
}  # fmt: skip


def _list(options: argparse.Namespace) -> int:
    folder = _open_or_empty(options)
    found = [] if folder is None else entries(folder)
    here = environment() if options.stale or options.foreign else {}
    if options.stale:
        found = [entry for entry in found if entry.problem or entries_.is_stale(entry, here)]
    if options.foreign:
        found = [entry for entry in found if not entry.problem and entries_.is_foreign(entry, here)]
    if options.grep:
        found = [entry for entry in found if options.grep in _names(entry)]
    found.sort(key=_SORT[options.sort])
    if options.json:
        print_json(found)
        return 0
    if not found:
        print("no entries")
        return 0
    heads = ["key", "fetches", "feeds", "ops", "kernels", "host", "object", "compile", "hits", "used"]
    heads += ["cpu", "version", "made by"]
    numbers = ["ops", "kernels", "host", "object", "compile", "hits"]
    spare = ["made by", "version", "cpu", "host", "object", "hits", "kernels", "compile", "used", "ops"]
    print_table(heads, [_row(entry) for entry in found], numbers, spare)
    return 0


def _names(entry: EntryInfo) -> str:
    return " ".join([*entry.fetches, *(feed.name for feed in entry.feeds), str(entry.made.get("by", "")), entry.key])


def _row(entry: EntryInfo) -> list[str]:
    if entry.problem:
        return [entry.key[:12], f"bad: {entry.problem}", *[""] * 6, str(entry.hits), _ago(entry.used), *[""] * 3]
    counts = entry.counts
    return [
        entry.key[:12], _some(entry.fetches), _some([str(feed) for feed in entry.feeds]),
        f"{counts.get('ops', 0)}/{counts.get('graph ops', 0)}", str(counts.get("kernels", 0)),
        str(counts.get("host ops", 0)), size(counts.get("object", 0)), span(entry.compile_seconds), str(entry.hits),
        _ago(entry.used), *(str(entry.made.get(name, "")) for name in ("cpu", "version", "by")),
    ]  # fmt: skip


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" +{len(names) - most}" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _ago(when: float) -> str:
    return span(max(1.0, time.time() - when)) + " ago"


# --- explain ---


def _explain(options: argparse.Namespace) -> int:
    if len(options.keys) != (0 if options.last_miss else 2):
        print("stepjit cache explain: give two keys, or --last-miss", file=sys.stderr)
        return 2
    folder = _open(options)
    if options.last_miss:
        before, now = _last_miss(folder)
    else:
        before, now = (entries_.details(folder, entries_.find_key(folder, key)) for key in options.keys)
    found = [] if before is None else differences(before, now)
    if options.json:
        print_json({"now": now.info.key, "before": before and before.info.key, "differences": found})
        return 0
    print(f"now     {now.info.key[:12]}  {_some(now.info.fetches)}{_made(now.info)}")
    if before is None:
        print("before  nothing like it: the first step of its kind in this cache")
        return 0
    print(f"before  {before.info.key[:12]}  {_some(before.info.fetches)}{_made(before.info)}")
    _print_differences(found)
    return 0


def _print_differences(found: Sequence[Difference], most: int = 12) -> None:
    if not found:
        print("no difference: it is the same step")
        return
    print(f"\n  {found[0]}")
    if len(found) > 1:
        print("\nand beside that, or following from it:")
    for each in found[1:most]:
        print(f"  {each}")
    if len(found) > most:
        print(f"  ... {len(found) - most} more (--json has all)")


def _made(info: EntryInfo) -> str:
    by, line = info.made.get("by", ""), info.made.get("line", "")
    return f"  (by {by}{f' at {line}' if line else ''}, {date(float(info.made.get('time', 0)))})"


def _last_miss(folder: Folder) -> tuple[EntryDetails | None, EntryDetails]:
    """The entry that the last miss gave, and the nearest of those that were there before."""
    known = {entry.key: entry for entry in entries(folder) if not entry.problem and not entry.is_helpers}
    missed = next((key for key in history(folder).last_misses if key in known), None)
    if missed is None:
        raise Refused("absent", "no miss is noted of a step that is still in the cache")
    now = known.pop(missed)
    made = float(now.made.get("time", 0))
    older = [entry for entry in known.values() if float(entry.made.get("time", 0)) <= made]
    # Steps that have nothing in common with it are only compared when there is nothing better.
    older = [entry for entry in older if set(entry.fetches) & set(now.fetches)] or older
    older.sort(key=lambda entry: (*nearness(now, entry), float(entry.made.get("time", 0))), reverse=True)
    new = entries_.details(folder, missed)
    best: tuple[int, EntryDetails] | None = None
    for entry in older[:NEAREST_LOOKED_AT]:
        try:
            old = entries_.details(folder, entry.key)
        except Refused:
            continue
        count = len(differences(old, new))
        if best is None or count < best[0]:
            best = count, old
    return (best[1] if best else None), new


# --- verify, prune, clear ---


def _verify(options: argparse.Namespace) -> int:
    folder = _open_or_empty(options)
    keys = [] if folder is None else sorted(file.name[: -len(SUFFIX)] for file in folder.files(SUFFIX))
    bad = []
    for key in _progress(keys, "verifying"):
        assert folder is not None
        try:
            entries_.check(folder, key)
        except Refused as refused:
            fixed = options.fix and folder.remove(key + SUFFIX)
            bad.append({"key": key, "reason": refused.reason, "message": str(refused), "deleted": bool(fixed)})
    if options.json:
        print_json({"entries": len(keys), "bad": bad})
    else:
        for each in bad:
            print(f"{each['key'][:12]}  {each['reason']}: {each['message']}{'  (deleted)' if each['deleted'] else ''}")
        print(f"{len(keys)} entries, {len(bad)} bad")
    return int(any(not each["deleted"] for each in bad))


def _prune(options: argparse.Namespace) -> int:
    if not (options.max_size is not None or options.older_than is not None or options.stale or options.foreign):
        print("stepjit cache prune: say what: --max-size, --older-than, --stale, --foreign", file=sys.stderr)
        return 2
    folder = _open_or_empty(options)
    found = [] if folder is None else entries(folder)
    here = environment() if options.stale or options.foreign else {}
    gone = [entry for entry in found if _is_to_go(entry, options, here)]
    kept, total = [entry for entry in found if entry not in gone], 0
    for entry in kept:  # last used first
        total += entry.bytes
        if options.max_size is not None and total > options.max_size:
            gone.append(entry)
    return _delete(options, folder, gone)


def _is_to_go(entry: EntryInfo, options: argparse.Namespace, here: dict[str, str]) -> bool:
    if options.older_than is not None and time.time() - entry.used > options.older_than:
        return True
    if options.stale and (entry.problem or entries_.is_stale(entry, here)):
        return True
    return bool(options.foreign and not entry.problem and entries_.is_foreign(entry, here))


def _delete(options: argparse.Namespace, folder: Folder | None, gone: Sequence[EntryInfo]) -> int:
    deleted = list(gone)
    if folder is not None and not options.dry_run:
        deleted = [entry for entry in _progress(gone, "deleting") if folder.remove(entry.key + SUFFIX)]
        folder.remove_partial()
        freed = sum(entry.bytes for entry in deleted)
        if deleted:
            cache_journal.note(folder, "evict", str(len(deleted)), bytes=freed)
    freed = sum(entry.bytes for entry in deleted)
    if options.json:
        print_json({"deleted": [e.key for e in deleted], "bytes": freed, "dry_run": options.dry_run})
    else:
        print(f"{'would delete' if options.dry_run else 'deleted'} {len(deleted)} entries, {size(freed)}")
    return int(len(deleted) < len(gone))


def _clear(options: argparse.Namespace) -> int:
    folder = _open_or_empty(options)
    code = _delete(options, folder, [] if folder is None else entries(folder))
    if folder is not None and not options.dry_run:
        for file in [*folder.files(".facts"), *folder.files(cache_journal.NAME), *folder.files(".old")]:
            if not file.name.startswith(PARTIAL):
                folder.remove(file.name)
    return code


def _progress(items: Sequence[Any], what: str) -> Any:
    """The items, with a bar while there are many and a person watches."""
    if len(items) < 500 or not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, what, console=Console(stderr=True), transient=True)


def _show(options: argparse.Namespace) -> int:
    from stepjit.cli import cache_show

    folder = _open(options)
    return cache_show.show(options, entries_.details(folder, entries_.find_key(folder, options.key)))


def _warm(options: argparse.Namespace) -> int:
    from stepjit.cli import warm

    return warm.warm(options, folder_path(options))


def _doctor(options: argparse.Namespace) -> int:
    from stepjit.cli import doctor

    return doctor.doctor(options, folder_path(options))


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "path": _path, "stats": _stats, "list": _list, "show": _show, "explain": _explain, "verify": _verify,
    "prune": _prune, "clear": _clear, "warm": _warm, "doctor": _doctor,
}  # fmt: skip
