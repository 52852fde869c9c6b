"""The command line: `python -m benchmarks`, from the root of the checkout."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import report, runner
from benchmarks.environment import PEERS, Setup
from benchmarks.targets import judge
from benchmarks.workloads import WORKLOADS


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="stepjit beside its peers, as ratios")
    parser.add_argument("--list", action="store_true", help="print the workloads and stop")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="workloads whose name holds NAME")
    parser.add_argument("--skip", metavar="NAME", action="append", default=[], help="leave those out")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"comma-separated, of {','.join(PEERS)}")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--rounds", type=int, help="rounds per workload (9, or 3 when quick)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure there")
    parser.add_argument("--python", metavar="PEER=PATH", action="append", default=[], help="the peer's interpreter")
    parser.add_argument("--cpu", type=int, help="the processor all workers are pinned to (the last one)")
    parser.add_argument("--no-pin", action="store_true", help="pin nothing")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run what the arguments ask for; 1 when a peer's results are wrong."""
    args = _arguments(argv)
    chosen = [w for w in WORKLOADS if not args.only or any(part in w.name for part in args.only)]
    chosen = [w for w in chosen if not any(part in w.name for part in args.skip)]
    if args.list:
        for workload in chosen:
            print(f"{workload.name:24} {workload.title}")
        return 0
    peers = [peer for peer in args.peers.split(",") if peer]
    unknown = [peer for peer in peers if peer not in PEERS]
    if unknown or not chosen:
        print(f"no such peer: {', '.join(unknown)}" if unknown else "no such workload", file=sys.stderr)
        return 2
    pythons = dict(item.split("=", 1) for item in args.python)
    setup = Setup(args.quick, args.rounds, args.cpu, not args.no_pin, pythons)
    results = runner.run(chosen, peers, setup)
    report.show(results, judge(results))
    if args.json:
        args.json.write_text(json.dumps(results.to_json(), indent=1))
    return 1 if any(column.error for each in results.workloads for column in each.columns.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
