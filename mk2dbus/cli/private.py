"""What ``run --capture`` and ``capture`` share: whether private things get into a recording."""

from __future__ import annotations

import argparse


def add_serial_numbers_argument(parser: argparse.ArgumentParser) -> None:
    """``--with-serial-numbers``: they are private, so it takes a word to have them in a file."""
    parser.add_argument(
        "--with-serial-numbers",
        action="store_true",
        help="record serial numbers and unique numbers of devices too; else others are put in their place",
    )
