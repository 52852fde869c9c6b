"""`stepjit cache warm`: compiles a step of a frozen graph into the cache, before anyone asks for it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from stepjit.cli.cache_commands import print_json
from stepjit.cli.columns import span
from stepjit.session.fetches import Fetches
from stepjit.session.steps import SessionStep
from stepjit_compiler.options import options as with_options
from stepjit_runtime.errors import OpError


def warm(options: argparse.Namespace, folder: str) -> int:
    """Compile the step of the named fetches and feeds; 1 when the graph can't be read or has no such step."""
    import stepjit.compat.v1 as tf

    try:
        feeds = dict(map(_feed, options.feed))
    except ValueError as error:
        print(f"stepjit cache warm: {error}", file=sys.stderr)
        return 2
    try:
        with open(options.graph, "rb") as file:
            data = file.read()
        with with_options(cache=folder), tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
            tf.import_graph_def(tf.GraphDef.FromString(data), name="")
            report = _compile(session, graph, options.fetch, feeds)
    except OSError as error:
        print(f"stepjit cache warm: {options.graph}: {error.strerror}", file=sys.stderr)
        return 1
    except (OpError, ValueError, TypeError, KeyError) as error:
        print(f"stepjit cache warm: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if type(error).__name__ != "DecodeError":
            raise
        print(f"stepjit cache warm: {options.graph} is no GraphDef: {error}", file=sys.stderr)
        return 1
    if options.json:
        print_json(report)
    else:
        how = "compiled" if report["compiled"] else "was there"
        print(f"{report['key']}  {how}, {span(report['seconds'])}, in {os.path.abspath(folder)}")
    return 0


def _feed(text: str) -> tuple[str, tuple[int | None, ...] | None]:
    """`x:0=?,224,224,3` as a name and a shape; without `=` the graph tells the shape."""
    name, sign, shape = text.partition("=")
    if not sign:
        return name, None
    extents = [part.strip() for part in shape.strip("[]() ").split(",") if part.strip()]
    if not all(part == "?" or part.isdigit() for part in extents):
        raise ValueError(f"--feed {text}: a shape is numbers and `?`, separated by commas")
    return name, tuple(None if part == "?" else int(part) for part in extents)


def _compile(session: Any, graph: Any, fetches: list[str], feeds: dict[str, Any]) -> dict[str, Any]:
    tensors = [graph.get_tensor_by_name(name if ":" in name else f"{name}:0") for name in feeds]
    shapes = []
    for tensor, shape in zip(tensors, feeds.values(), strict=True):
        known = tensor.dims if shape is None else shape
        if known is None:
            raise ValueError(f"--feed {tensor.name}: the graph does not tell its rank, so a shape must be given")
        if tensor.dims is not None and len(known) != len(tensor.dims):
            raise ValueError(f"--feed {tensor.name}: has rank {len(tensor.dims)}, not {len(known)}")
        shapes.append(tuple(2 if extent is None else extent for extent in known))
    wanted = Fetches(graph, fetches)
    variant = SessionStep(session, wanted.tensors, wanted.targets, tuple(tensors)).variant(shapes)
    return {"key": variant.key, "compiled": session.compile_stats().compiled > 0, "seconds": variant.seconds}
