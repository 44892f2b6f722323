"""Does the adapter take winmon commands that carry their address (``x`` ``y`` ``z``, §3)?

Only newer ones do. It is tried with commands that change nothing, and compared with what the same device said
when it was addressed with ``A``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mk2dbus.mk2.errors import NoReply, Rejected
from mk2dbus.mk2.exchange import Priority
from mk2dbus.mk2.link import Link
from mk2dbus.mk2.winmon import GetSerial, GetVersion, Version

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""One reply may be lost; an adapter that does not know the form gives none."""

_ADDRESSES = range(32)

Identity = str | Version


async def find_addressed(link: Link, serials: Mapping[int, str | None]) -> bool:
    """Find out whether the adapter takes addressed commands, and use them from then on if so.

    With a single device there is nothing to gain. No answer, or that of another device, means that the
    adapter does not take them; that costs two time-outs. Every device but one is asked: the one to which the
    adapter sends what carries no address.

    Args:
        serials: the addresses of all devices, and what each answered to :class:`.winmon.GetSerial` without
            an address; ``None``: nothing.

    Raises:
        NoReply: a device does not answer even as it always did.
        PortLost, LinkClosed: the link is over.
    """
    link.addressed = False
    if len(serials) < 2:
        return False
    known: dict[int, Identity] = {}
    for address, serial in serials.items():
        known[address] = serial if serial else await _version(link, address)
    away = link.address
    if away not in known:
        away = next(reversed(known))
        await _version(link, away)
    others = [address for address in known if address != away]
    try:
        for address in others:
            answer = await _identify(link, address, known[address])
            if answer != known[address]:
                log.info("the adapter ignores addresses in commands: %s is not device %d", answer, address)
                return False
        if all(known[address] == known[away] for address in others) and await _answers_for_nobody(
            link, known
        ):
            log.info("the adapter ignores addresses in commands: one that nobody has was answered")
            return False
    except (NoReply, Rejected) as error:
        log.info("the adapter does not take addresses in commands: %s", error)
        return False
    link.addressed = True
    log.debug("the adapter takes addresses in commands")
    return True


async def _version(link: Link, address: int) -> Version:
    return await link.request(GetVersion(), address)


async def _identify(link: Link, address: int, known: Identity) -> Identity:
    if isinstance(known, Version):
        return await link.request(GetVersion(), address, addressed=True, attempts=ATTEMPTS)
    return await link.request(GetSerial(), address, addressed=True, attempts=ATTEMPTS)


async def _answers_for_nobody(link: Link, present: Mapping[int, Identity]) -> bool:
    """Whether a command to an address that no device has is answered. Tells apart devices that are alike."""
    nobody = next(address for address in reversed(_ADDRESSES) if address not in present)
    try:
        await link.request(GetVersion(), nobody, Priority.TELEMETRY, addressed=True, attempts=1)
    except NoReply:
        return False
    return True
