"""``mk2dbus doctor``: what keeps an inverter from being on the bus, and what to do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from mk2dbus.doctor.examine import examine
from mk2dbus.doctor.findings import Finding, Level

from .common import DONE, FAILED, command

_MARKS = {Level.OK: "ok  ", Level.NOTE: "note", Level.FAIL: "FAIL"}


def add_parsers(subparsers: Any) -> None:
    """Add ``doctor``."""
    parser = subparsers.add_parser(
        "doctor",
        help="find out what is wrong, and what to do",
        description="Look at bus, policy, service, adapter, port, permission, other programs and inverter, "
        "and say what to do. Changes nothing; a port that a program uses is not touched, the service is "
        "asked over the bus instead. Exit code 0 when all is well, 1 when something is not. As root it sees "
        "more.",
    )
    parser.add_argument("--tty", metavar="PORT", help="look at this port only (default: every MK2 and MK3)")
    parser.add_argument(
        "--bus",
        default="system",
        metavar="system|session|ADDRESS",
        help="the bus to look at (default: system)",
    )
    parser.add_argument("--json", action="store_true", help="a list of objects: level, about, text, advice")
    parser.set_defaults(run=command(_doctor))


async def _doctor(arguments: argparse.Namespace) -> int:
    found = []
    async for finding in examine(arguments.tty, arguments.bus):
        found.append(finding)
        if not arguments.json:
            _show(finding)
    if arguments.json:
        print(json.dumps([finding.record() for finding in found], indent=2, ensure_ascii=False))
    else:
        _sum_up(found)
    return FAILED if _count(found, Level.FAIL) else DONE


def _count(found: Sequence[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in found)


def _sum_up(found: Sequence[Finding]) -> None:
    if failed := _count(found, Level.FAIL):
        print(f"{failed} thing(s) to do, the first one first")
    else:
        print("nothing wrong was found" if _count(found, Level.NOTE) else "all is well")


def _show(finding: Finding) -> None:
    print(f"{_MARKS[finding.level]}  {finding.about}: {finding.text}")
    if finding.advice:
        print(f"      → {finding.advice}")
