"""com.victronenergy.BusItem: the door that Venus clients use."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Iterator
from typing import Any

from mk2dbus.items import InvalidValue, Number, OutOfRange, ReadOnly, WriteFailed

from .access import WriterBroken
from .interfaces import Answer, Interface, Method, Signal, Target
from .library import encode
from .names import BUS_ITEM, ITEMS_CHANGED
from .tree import ROOT, Item
from .values import ITEMS, all_items, folder_texts, folder_values, limit_variant, plain, text_body, value_body
from .wire import Body

log = logging.getLogger(__name__)

DONE, NOT_SENT, NOT_DONE = 0, 1, 2
"""Answers of SetValue: done; refused before anything was sent; refused or lost by the device."""


def _get_value(target: Target, _: list[Any]) -> Answer:
    item = target.leaf
    if item.value is None and item.fetch is not None:
        return _fetched_value(target, item)
    return value_body(item)


async def _fetched_value(target: Target, item: Item) -> Body:
    await target.access.fetched(item)
    return value_body(item)


def _get_text(target: Target, _: list[Any]) -> Answer:
    return text_body(target.leaf)


def _set_value(target: Target, arguments: list[Any]) -> Answer:
    try:
        outcome = target.access.write(target.leaf, plain(arguments[0]))
    except WriteFailed as error:
        return _code(_code_of(error))
    return _outcome_code(outcome)


def _set_default(target: Target, _: list[Any]) -> Answer:
    try:
        outcome = target.access.write_default(target.leaf)
    except WriteFailed as error:
        return _code(_code_of(error))
    return _outcome_code(outcome)


async def _outcome_code(outcome: Coroutine[None, None, None]) -> Body:
    try:
        await outcome
    except WriteFailed as error:
        log.info("write failed: %s", error)
        return _code(_code_of(error))
    except WriterBroken:
        return _code(NOT_DONE)
    return _code(DONE)


def _code_of(error: WriteFailed) -> int:
    return NOT_SENT if isinstance(error, (ReadOnly, InvalidValue, OutOfRange)) else NOT_DONE


def _code(number: int) -> Body:
    return Body("i", number.to_bytes(4, "little"))


def _get_min(target: Target, _: list[Any]) -> Answer:
    return _limit(target.leaf, target.leaf.limits.minimum)


def _get_max(target: Target, _: list[Any]) -> Answer:
    return _limit(target.leaf, target.leaf.limits.maximum)


def _get_default(target: Target, _: list[Any]) -> Answer:
    return _limit(target.leaf, target.leaf.limits.default)


def _limit(item: Item, limit: Number | None) -> Body:
    return Body("v", encode("v", [limit_variant(item.leaf.kind, limit)]))


def _get_description(target: Target, arguments: list[Any]) -> Answer:
    """In English whatever the language asked for; cut when a length above 0 is given, as Venus has it."""
    _language, length = arguments
    meaning = target.leaf.leaf.meaning
    return Body("s", encode("s", [meaning[:length] if length > 0 else meaning]))


def _folder_values(target: Target, _: list[Any]) -> Answer:
    return folder_values(_below(target))


def _folder_texts(target: Target, _: list[Any]) -> Answer:
    return folder_texts(_below(target))


def _below(target: Target) -> Iterator[tuple[str, Item]]:
    """The items of a folder, by path relative to it."""
    cut = len(target.path) + (target.path != ROOT)
    return ((item.leaf.path[cut:], item) for item in target.tree.items_below(target.path))


def _get_items(target: Target, _: list[Any]) -> Answer:
    return all_items(target.tree)


_ITEMS_OUT = (("items", ITEMS),)

LEAF = Interface(
    BUS_ITEM,
    (
        Method("GetValue", _get_value, gives=(("value", "v"),)),
        Method("GetText", _get_text, gives=(("text", "s"),)),
        Method("SetValue", _set_value, takes=(("value", "v"),), gives=(("result", "i"),)),
        Method("GetMin", _get_min, gives=(("minimum", "v"),)),
        Method("GetMax", _get_max, gives=(("maximum", "v"),)),
        Method("GetDefault", _get_default, gives=(("default", "v"),)),
        Method("SetDefault", _set_default, gives=(("result", "i"),)),
        Method(
            "GetDescription",
            _get_description,
            takes=(("language", "s"), ("length", "i")),
            gives=(("description", "s"),),
        ),
    ),
)

FOLDER = Interface(
    BUS_ITEM,
    (
        Method("GetValue", _folder_values, gives=(("values", "v"),)),
        Method("GetText", _folder_texts, gives=(("texts", "v"),)),
    ),
)

ROOT_FOLDER = Interface(
    BUS_ITEM,
    (*FOLDER.methods, Method("GetItems", _get_items, gives=_ITEMS_OUT)),
    (Signal(ITEMS_CHANGED, _ITEMS_OUT),),
)
