"""`stepjit cache ...`: its arguments. What the commands do stands in `cache_commands` and `cache_show`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

_ABOUT = """\
Looks into the cache of compiled steps. Keys may be shortened to any start that only one of them has. Commands that
only look write nothing and run no compiled code."""

_EXAMPLE = """\
example:
  stepjit cache list --sort compile
  stepjit cache explain --last-miss        # why was the last step not found?
  stepjit cache show 1a2b --asm

exit codes: 0 done, 1 something is wrong (a bad entry, no such key), 2 wrong arguments"""

SORTS = ("used", "name", "bytes", "compile", "hits", "made")


def add_cache(commands: Any, run: Callable[[argparse.Namespace], int]) -> None:
    """Put the `cache` command and its own commands in; `run(options)` runs the chosen one, `options.command`."""
    cache = commands.add_parser(
        "cache", help="look into the cache of compiled steps", description=_ABOUT, epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--folder", metavar="PATH", help="the cache's folder (default: STEPJIT_CACHE, or the user's)")
    shared.add_argument("--json", action="store_true", help="print JSON, for programs")
    inner = cache.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, about: str, **more: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = inner.add_parser(
            name, parents=[shared], help=about, description=about[0].upper() + about[1:] + ".", **more
        )
        parser.set_defaults(run=run, command=name)
        return parser

    command("path", "print the cache's folder")
    command("stats", "entries, bytes, hits, misses by reason, time spent and saved")
    _add_list(command("list", "the entries, last used first"))
    _add_show(command("show", "one entry: what it is of, what it was compiled to"))
    explain = command("explain", "why two steps have different keys, in words")
    explain.add_argument("keys", nargs="*", metavar="KEY", help="two keys: what changed from the first to the second")
    explain.add_argument(
        "--last-miss", action="store_true", help="the last step that was not found, against the nearest entry before it"
    )
    verify = command("verify", "read all entries whole and check them")
    verify.add_argument("--fix", action="store_true", help="delete those that are bad")
    _add_prune(command("prune", "delete entries"))
    clear = command("clear", "delete all entries and the journal")
    clear.add_argument("--dry-run", action="store_true", help="tell, but do nothing")
    _add_warm(command("warm", "compile a step of a frozen graph ahead, for a container image"))
    command("doctor", "what this machine, its LLVM and its cache folder are like, and what is wrong with them")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sort", choices=SORTS, default="used", help="by what (default: used)")
    parser.add_argument("--stale", action="store_true", help="only those that this version would never ask for")
    parser.add_argument("--foreign", action="store_true", help="only those for other CPUs")
    parser.add_argument("--grep", metavar="TEXT", help="only those with TEXT in a name of a fetch, feed or program")


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--step", action="store_true", help="the pruned step's text, and the simplified one's")
    what.add_argument("--ir", action="store_true", help="the LLVM IR")
    what.add_argument("--asm", action="store_true", help="the machine code")
    what.add_argument("--dot", action="store_true", help="the pruned step as a graph for Graphviz")
    what.add_argument("--svg", action="store_true", help="the pruned step as a picture")


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-size", type=_size, metavar="BYTES", help="keep the last used up to this size: `100MB`")
    parser.add_argument("--older-than", type=_seconds, metavar="AGE", help="delete what was not used for `30d`, `12h`")
    parser.add_argument("--stale", action="store_true", help="delete what this version would never ask for")
    parser.add_argument("--foreign", action="store_true", help="delete code for other CPUs")
    parser.add_argument("--dry-run", action="store_true", help="tell, but do nothing")


def _add_warm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("graph", metavar="GRAPH.pb", help="a GraphDef")
    parser.add_argument("--fetch", action="append", required=True, metavar="NAME", help="a tensor or op; repeatable")
    parser.add_argument(
        "--feed", action="append", default=[], metavar="NAME[=SHAPE]",
        help="a tensor, with its shape where the graph does not tell: `x:0=?,224,224,3`; repeatable",
    )  # fmt: skip


def _size(text: str) -> int:
    from stepjit_compiler.options import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _seconds(text: str) -> float:
    number, unit = (text[:-1], text[-1]) if text and text[-1] in _UNITS else (text, "d")
    try:
        found = float(number) * _UNITS[unit]
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no age, as `30d`, `12h` or `90s` are")
    return found
