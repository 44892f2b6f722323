"""What is encoded without the libraries is what they make of it, byte for byte."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mk2dbus.bus import values
from mk2dbus.bus.library import LIBRARIES
from mk2dbus.bus.server import Server
from mk2dbus.bus.tree import Change, Item, Tree
from mk2dbus.bus.wire import (
    BIG_ENDIAN,
    LITTLE_ENDIAN,
    Body,
    Field,
    Message,
    MessageType,
    decode_header,
    encode_header,
    encode_reply,
)
from mk2dbus.items import INT32_MAX, INT32_MIN, NO_LIMITS, Kind, Leaf, Limits

INT32 = st.integers(INT32_MIN, INT32_MAX)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
CONTENTS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.REAL: st.floats(allow_nan=False, allow_infinity=False),
    Kind.INTEGER: INT32,
    Kind.TEXT: TEXT,
    Kind.LIST: st.lists(INT32, max_size=5).map(tuple),
}
PATHS = st.lists(st.text("abcXYZ019_", min_size=1, max_size=9), min_size=1, max_size=3).map(
    lambda names: "/" + "/".join(names)
)
BOUND = st.none() | INT32


@st.composite
def leaves(draw: st.DrawFn, path: str) -> tuple[Leaf, Any, Limits]:
    kind = draw(st.sampled_from(Kind))
    leaf = Leaf(path, kind, unit=draw(st.sampled_from(["", "V", "°C"])), texts=draw(TEXTS))
    limits = draw(st.just(NO_LIMITS) | st.builds(Limits, BOUND, BOUND, BOUND))
    return leaf, draw(st.none() | CONTENTS[kind]), limits


TEXTS = st.dictionaries(st.integers(0, 3), TEXT, max_size=2)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree = Tree()
    for path in draw(st.lists(PATHS, max_size=12, unique=True)):
        above = [path[:end] for end in range(1, len(path)) if path[end] == "/"]
        if not tree.is_folder(path) and not any(folder in tree for folder in above):
            leaf, value, limits = draw(leaves(path))
            tree.add(leaf, value, limits=limits)
    return tree


few = settings(max_examples=20)  # trees take long to make up


@pytest.fixture(params=LIBRARIES, scope="module")
def library(request: pytest.FixtureRequest) -> Any:
    """Variant and encode of one library."""
    name = request.param
    signature = pytest.importorskip(f"{name}.signature")
    marshaller: Any = importlib.import_module(f"{name}._private.marshaller")

    class Library:
        variant = staticmethod(signature.Variant)

        @staticmethod
        def encode(types: str, content: Sequence[Any]) -> bytes:
            return bytes(marshaller.Marshaller(types, list(content)).marshall())

        @classmethod
        def value(cls, kind: Kind, value: Any) -> Any:
            if value is None:
                return cls.variant("ai", [])
            return cls.variant(kind.value, list(value) if isinstance(value, tuple) else value)

        @classmethod
        def parts(cls, item: Item, change: Change | None) -> dict[str, Any]:
            """What is told of an item; ``None``: all there is."""
            kind, limits = item.leaf.kind, item.limits
            told = {}
            if change is None or change & Change.VALUE:
                told["Value"] = cls.value(kind, item.value)
                told["Text"] = cls.variant("s", item.text)
            for name, flag, limit in (
                ("Min", Change.MINIMUM, limits.minimum),
                ("Max", Change.MAXIMUM, limits.maximum),
                ("Default", Change.DEFAULT, limits.default),
            ):
                if (limit is not None) if change is None else change & flag:
                    real = kind is Kind.REAL and limit is not None
                    told[name] = cls.value(
                        Kind.REAL if real else Kind.INTEGER, float(limit) if real else limit
                    )
            return told

    return Library


@pytest.mark.parametrize("kind", Kind)
@settings(max_examples=40)
@given(data=st.data())
def test_values(library: Any, kind: Kind, data: st.DataObject) -> None:
    tree = Tree()
    tree.add(Leaf("/X", kind), data.draw(st.none() | CONTENTS[kind]))
    (item,) = tree.items()
    assert values.value_body(item) == Body("v", library.encode("v", [library.value(kind, item.value)]))
    assert values.text_body(item) == Body("s", library.encode("s", [item.text]))


@few
@given(tree=trees(), data=st.data())
def test_all_items(library: Any, tree: Tree, data: st.DataObject) -> None:
    """First whole, then with some changed, so that most comes from what is kept."""

    def expected() -> Body:
        shown = {item.leaf.path: library.parts(item, None) for item in tree.items()}
        return Body(values.ITEMS, library.encode(values.ITEMS, [shown]))

    assert values.all_items(tree) == expected()
    for item in list(tree.items()):
        match data.draw(st.sampled_from(["nothing", "value", "limits", "remove"])):
            case "value":
                tree.update({item.leaf.path: data.draw(st.none() | CONTENTS[item.leaf.kind])})
            case "limits":
                tree.set_limits(item.leaf.path, data.draw(st.builds(Limits, BOUND, BOUND, BOUND)))
            case "remove":
                tree.remove(item.leaf.path)
    values.changed_items(tree.take_changes())
    assert values.all_items(tree) == expected()


@few
@given(tree=trees(), data=st.data())
def test_changes(library: Any, tree: Tree, data: st.DataObject) -> None:
    for told_before in (False, True):
        if told_before:
            values.all_items(tree)
            for item in list(tree.items()):
                tree.update({item.leaf.path: data.draw(st.none() | CONTENTS[item.leaf.kind])})
                if data.draw(st.booleans()):
                    tree.set_limits(
                        item.leaf.path, data.draw(st.just(NO_LIMITS) | st.builds(Limits, BOUND, BOUND, BOUND))
                    )
                if data.draw(st.booleans()):
                    tree.remove(item.leaf.path)
        changes = tree.take_changes()
        told = {item.leaf.path: library.parts(item, change) for item, change in changes}
        assert values.changed_items(changes) == Body(values.ITEMS, library.encode(values.ITEMS, [told]))


@few
@given(tree=trees(), data=st.data())
def test_folders(library: Any, tree: Tree, data: st.DataObject) -> None:
    server: Any = Server(tree, None)  # type: ignore[arg-type]  # nothing waits here
    folders = ["/", *(path for item in tree.items() for path in [item.leaf.path.rpartition("/")[0]] if path)]
    folder = data.draw(st.sampled_from(folders))
    prefix = folder.rstrip("/") + "/"
    below = {item.leaf.path[len(prefix) :]: item for item in tree.items_below(folder)}
    assert {prefix + name for name in below} == {path for path in tree if path.startswith(prefix)}
    shown = {name: library.value(item.leaf.kind, item.value) for name, item in below.items()}
    texts = {name: library.variant("s", item.text) for name, item in below.items()}
    for member, content in (("GetValue", shown), ("GetText", texts)):
        answer = server._dispatch(Message(MessageType.METHOD_CALL, path=folder, member=member))
        assert answer == Body("v", library.encode("v", [library.variant("a{sv}", content)]))


names = st.text("abcXYZ_09.:", max_size=40)
serials = st.integers(1, 2**32 - 1)


@given(serials, serials, names, st.sampled_from(["", "v", "s", values.ITEMS]), st.integers(0, 1 << 20))
def test_a_reply_has_the_header_of_a_reply(
    serial: int, reply_serial: int, destination: str, signature: str, length: int
) -> None:
    message = Message(
        MessageType.METHOD_RETURN,
        serial=serial,
        reply_serial=reply_serial,
        destination=destination,
        signature=signature,
    )
    header = encode_header(message, length)
    assert encode_reply(serial, reply_serial, destination, signature, length) == header
    assert decode_header(header, LITTLE_ENDIAN) == message


ALIGNMENTS = {"y": 1, "b": 4, "n": 2, "q": 2, "i": 4, "u": 4, "x": 8, "t": 8, "d": 8, "s": 4, "o": 4, "g": 1}
CODES = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}
KNOWN = {
    Field.PATH: "o",
    Field.INTERFACE: "s",
    Field.MEMBER: "s",
    Field.ERROR_NAME: "s",
    Field.REPLY_SERIAL: "u",
    Field.DESTINATION: "s",
    Field.SENDER: "s",
    Field.SIGNATURE: "g",
}


def simple(kind: str, value: Any, endian: str) -> bytes:
    if kind in "so":
        return struct.pack(f"{endian}I", len(value.encode())) + value.encode() + b"\0"
    if kind == "g":
        return bytes([len(value.encode())]) + value.encode() + b"\0"
    return struct.pack(endian + CODES[kind], value)


def unknown(kind: str) -> st.SearchStrategy[tuple[int, str, Any]]:
    content: st.SearchStrategy[Any] = st.integers(0, 1)
    if kind == "d":
        content = st.floats(allow_nan=False)
    elif kind in "sog":
        content = TEXT.filter(lambda text: len(text.encode()) < 256)
    return st.tuples(st.integers(10, 255), st.just(kind), content)


fields = st.lists(st.sampled_from(sorted(ALIGNMENTS)).flatmap(unknown), max_size=4).flatmap(
    lambda strange: st.fixed_dictionaries(
        {}, optional={code: serials if kind == "u" else TEXT for code, kind in KNOWN.items()}
    ).flatmap(
        lambda known: st.permutations(
            [*strange, *((int(code), KNOWN[code], value) for code, value in known.items())]
        )
    )
)


@settings(max_examples=50)
@given(fields, st.sampled_from([LITTLE_ENDIAN, BIG_ENDIAN]), st.booleans(), serials)
def test_headers_with_fields_of_all_kinds_in_any_order(
    fields: list[tuple[int, str, Any]], endian: str, no_reply: bool, serial: int
) -> None:
    data = b""
    for code, kind, value in fields:
        data += bytes(-len(data) % 8) + bytes([code, 1, ord(kind), 0])
        data += bytes(-len(data) % ALIGNMENTS[kind]) + simple(kind, value, endian)
    order = ord("l" if endian == LITTLE_ENDIAN else "B")
    header = struct.pack(f"{endian}BBBBIII", order, 1, int(no_reply), 1, 0, serial, len(data)) + data
    header += bytes(-len(header) % 8)
    expected = Message(MessageType.METHOD_CALL, serial=serial, no_reply=no_reply, endian=endian)
    for code, _, value in fields:
        if code in KNOWN:
            setattr(expected, Field(code).name.lower(), value)
    assert decode_header(header, endian) == expected


def test_padding_of_every_length(library: Any) -> None:
    for path_length in range(1, 10):
        for text_length in range(9):
            tree = Tree()
            tree.add(Leaf("/" + "x" * path_length, Kind.TEXT), "y" * text_length)
            tree.add(Leaf("/Last", Kind.REAL), -0.0)
            shown = {item.leaf.path: library.parts(item, None) for item in tree.items()}
            assert values.all_items(tree).data == library.encode(values.ITEMS, [shown])
            texts = {item.leaf.path[1:]: library.variant("s", item.text) for item in tree.items()}
            named = [(item.leaf.path[1:], item) for item in tree.items()]
            assert values.folder_texts(named).data == library.encode("v", [library.variant("a{sv}", texts)])
