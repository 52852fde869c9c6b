"""The `stepjit` command: its arguments, and what each of its commands runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from stepjit.cli.cache import add_cache

INTERRUPTED = 130

_ABOUT = """\
stepjit runs TensorFlow 1 graphs without TensorFlow. A graph is built with TF1's API, and a Session compiles each step
(a set of fetches under a set of feeds) into one native function through LLVM."""

_EXAMPLE = """\
example:
  import numpy as np, stepjit.compat.v1 as tf
  x = tf.placeholder(tf.float32, [None, 3])
  y = tf.reduce_sum(tf.tanh(x) ** 2, axis=1)
  step = tf.Session().make_callable(y, [x])      # a native function of x
  print(step(np.ones((2, 3), np.float32)))
  print(step.explain())                          # what it was compiled to

environment:
  STEPJIT_CACHE=PATH           where compiled steps are kept; `off`: nowhere
  STEPJIT_CACHE_BYTES=512MB    how much is kept there
  STEPJIT_LOG=compile,cache    one line on stderr for each compile, and for each step read from the cache
  STEPJIT_DUMP=simplify,fuse   what passes made, on stderr; `all` for every pass
  STEPJIT_VERIFY=1             check the invariants of each step between passes

exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (wrong arguments raise SystemExit(2))."""
    try:
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("stepjit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter's own flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stepjit", description=_ABOUT, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="train a classifier of handwritten digits, time its steps, show what was compiled (a few seconds)",
        description="Trains a network (64-128-64-10, or another by --model) on the UCI handwritten digits with Adam, "
        "in batches of 32; tells the accuracy on digits it has not seen, the time of a training step and of an "
        "inference step, and the kernels that they were compiled to.",
    )
    demo.add_argument("--epochs", type=_positive, default=30, metavar="N", help="passes over the data (default 30)")
    demo.add_argument(
        "--model", choices=("mlp", "cnn", "lstm"), default="mlp",
        help="dense layers, convolutions and pooling, or an LSTM that reads each image row by row (default mlp)",
    )  # fmt: skip
    demo.add_argument("--seed", type=_natural, default=0, metavar="N", help="of weights and batches (default 0)")
    demo.set_defaults(run=_demo)
    add_cache(commands, _cache)
    version = commands.add_parser("version", help="versions of stepjit and of what it stands on")
    version.set_defaults(run=_version)
    return parser


def _positive(text: str) -> int:
    return _whole(text, least=1)


def _natural(text: str) -> int:
    return _whole(text, least=0)


def _whole(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"not a whole number from {least} on: {text!r}")
    return int(text)


def _cache(options: argparse.Namespace) -> int:
    from stepjit.cli import cache_commands

    return cache_commands.run(options)


def _demo(options: argparse.Namespace) -> int:
    from stepjit.cli import demo

    return demo.run(options.epochs, options.seed, options.model)


def _version(options: argparse.Namespace) -> int:
    import platform

    import llvmlite
    import llvmlite.binding
    import numpy as np

    import stepjit

    llvm = ".".join(map(str, llvmlite.binding.llvm_version_info))
    print(f"stepjit {stepjit.__version__}")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, llvmlite {llvmlite.__version__} (LLVM {llvm})")
    print(f"{platform.system()} {platform.machine()}, {llvmlite.binding.get_host_cpu_name()}")
    return 0
