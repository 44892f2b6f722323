"""Figures of the line on the board, ``/Mgmt/Statistics``: how well it is used, and how well it works."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from mk2dbus.items import Value
from mk2dbus.mk2.link import Link
from mk2dbus.vebus.board import Board
from mk2dbus.vebus.schedule import Scheduler

INTERVAL_S = 5.0
"""How often they are renewed: seldom, as they are for people and each renewal is a signal on the bus."""

FOLDER = "/Mgmt/Statistics"
_CYCLE = "dc"
"""The poll whose rounds are the telemetry cycle."""
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Totals:
    """What is counted since the service started."""

    retries: int = 0
    timeouts: int = 0
    dropped_bytes: int = 0
    stray_frames: int = 0
    implausible: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


class Statistics:
    """Counts over all sessions, and shows what the present one is doing."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._sessions = 0
        self._before = Totals()
        self._implausible_before = 0
        self._link: Link | None = None
        self._scheduler: Scheduler | None = None

    @property
    def totals(self) -> Totals:
        """Everything up to now."""
        implausible = self._implausible_before
        if self._scheduler is not None:
            implausible += self._scheduler.implausible
        now = Totals(implausible=implausible)
        if self._link is not None:
            figures = self._link.figures()
            now = Totals(
                figures.retries, figures.timeouts, figures.dropped_bytes, figures.stray_frames, implausible
            )
        return self._before + now

    @property
    def sessions(self) -> int:
        """Sessions with an adapter."""
        return self._sessions

    def begin(self, link: Link) -> None:
        """A session begins."""
        self._sessions += 1
        self._link = link
        self.show()

    def end(self) -> None:
        """The session is over."""
        totals = self.totals
        self._implausible_before = totals.implausible
        self._before = Totals(totals.retries, totals.timeouts, totals.dropped_bytes, totals.stray_frames)
        self._link = None
        self.show()

    def follow(self, scheduler: Scheduler | None) -> None:
        """The polls of a system begin, or end."""
        if self._scheduler is not None:
            self._implausible_before += self._scheduler.implausible
        self._scheduler = scheduler

    def show(self) -> None:
        """Put the figures of now on the board."""
        totals = self.totals
        self._board.update(
            {
                f"{FOLDER}/{name}": value
                for name, value in (
                    *self._momentary().items(),
                    ("Sessions", self._sessions),
                    ("Retries", totals.retries),
                    ("Timeouts", totals.timeouts),
                    ("DroppedBytes", totals.dropped_bytes),
                    ("StrayFrames", totals.stray_frames),
                    ("ImplausibleFrames", totals.implausible),
                )
            }
        )

    def _momentary(self) -> dict[str, Value]:
        if self._link is None:
            names = [
                "ShareSent",
                "ShareReceived",
                "RoundTrip",
                "RoundTripMax",
                "Pipeline",
                "OldestValue",
                "Cycle",
            ]
            return dict.fromkeys(names)
        figures = self._link.figures()
        scheduler = self._scheduler
        return {
            "ShareSent": round(100 * figures.sent_share, 1),
            "ShareReceived": round(100 * figures.received_share, 1),
            "RoundTrip": _rounded(figures.round_trip_mean_s),
            "RoundTripMax": _rounded(figures.round_trip_max_s),
            "Pipeline": figures.pipeline,
            "OldestValue": None if scheduler is None else _rounded(scheduler.oldest_s()),
            "Cycle": None if scheduler is None else _rounded(scheduler.period_s(_CYCLE)),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, _DIGITS)
