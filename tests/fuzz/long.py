"""Feed random and mutated inputs to every parser, as many as wanted::

    python tests/fuzz/long.py --count 1000000

Each target gets so many inputs, from a seed that is printed. What makes one raise is shown in hex, made as
short as it still fails, and kept in ``corpus/``, which the tests feed from then on. Memory is looked at on
the way.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.mutate import INPUTS
from fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
SHOWN_EVERY = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200_000, help="inputs for each target (default: 200000)")
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFF_FFFF)
    parser.add_argument("--target", choices=TARGETS, action="append", help="default: all")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failures = 0
    for name in arguments.target or TARGETS:
        failures += _fuzz(name, arguments.count, arguments.seed)
    return min(failures, 1)


def _fuzz(name: str, count: int, seed: int) -> int:
    random, target, make = Random(f"{name} {seed}"), TARGETS[name], INPUTS[name]
    start, begun_kib, failures, size = time.monotonic(), 0, 0, 0
    for number in range(count):
        data = make(random)
        size += len(data)
        try:
            target(data)
        except Exception:
            failures += 1
            _keep(name, _shortest(target, data))
            if failures == 10:
                print(f"{name}: given up after {number + 1} inputs")
                break
        if number == min(count, SHOWN_EVERY) // 2:
            begun_kib = _resident_kib()
    took = time.monotonic() - start
    print(
        f"{name}: {number + 1} inputs, {size / 1e6:.1f} MB, seed {seed}, {took:.0f} s, {failures} failures, "
        f"memory {_resident_kib() - begun_kib:+d} KiB"
    )
    return failures


def _shortest(target: Callable[[bytes], None], data: bytes) -> bytes:
    """Take away what can go while it still fails."""
    size = len(data) // 2
    while size:
        for start in range(0, len(data), size):
            less = data[:start] + data[start + size :]
            try:
                target(less)
            except Exception:
                data = less
                break
        else:
            size //= 2
    return data


def _keep(name: str, data: bytes) -> None:
    print(f"{name} fails with {data.hex(' ')}")
    try:
        TARGETS[name](data)
    except Exception:
        traceback.print_exc()
    file = CORPUS / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.hex"
    file.write_text(data.hex(" ") + "\n", encoding="ascii")


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


if __name__ == "__main__":
    sys.exit(main())
