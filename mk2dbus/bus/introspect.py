"""org.freedesktop.DBus.Introspectable: what an object has, written from the declarations it is served by."""

from __future__ import annotations

from functools import lru_cache
from xml.sax.saxutils import quoteattr

from .interfaces import Answer, Interface, Method, Target
from .library import encode
from .names import BUS_ITEM, INTROSPECTABLE
from .properties import VALUE, properties_of
from .wire import Body

_HEAD = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)

# Changes are told in ItemsChanged of the root, never in PropertiesChanged.
_SILENT = '<annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/>'

_Properties = tuple[tuple[str, str, str], ...]


def introspect(target: Target) -> str:
    """The XML of an object."""
    properties: _Properties = ()
    if target.item is not None:
        properties = tuple(
            (entry.name, entry.signature, _access(target, entry.name)) for entry in properties_of(target.item)
        )
    nodes = "".join(f"  <node name={quoteattr(name)}/>\n" for name in target.tree.children(target.path))
    return (
        f"{_HEAD}<node>\n{_interfaces(target.kind.name, target.kind.interfaces, properties)}{nodes}</node>\n"
    )


def _access(target: Target, name: str) -> str:
    return "readwrite" if name == VALUE and target.leaf.writable else "read"


# There are few shapes of objects and many objects.
@lru_cache(maxsize=64)
def _interfaces(kind: str, interfaces: tuple[Interface, ...], properties: _Properties) -> str:
    lines = []
    for interface in interfaces:
        lines.append(f"  <interface name={quoteattr(interface.name)}>")
        for method in interface.methods:
            lines += _method(method)
        for signal in interface.signals:
            lines.append(f"    <signal name={quoteattr(signal.name)}>")
            lines += [
                f"      <arg name={quoteattr(name)} type={quoteattr(type_)}/>"
                for name, type_ in signal.carries
            ]
            lines.append("    </signal>")
        if interface.name == BUS_ITEM:
            lines += [
                f"    <property name={quoteattr(name)} type={quoteattr(type_)} access={quoteattr(access)}>"
                f"{_SILENT}</property>"
                for name, type_, access in properties
            ]
        lines.append("  </interface>")
    return "".join(f"{line}\n" for line in lines)


def _method(method: Method) -> list[str]:
    lines = [f"    <method name={quoteattr(method.name)}>"]
    for direction, arguments in (("in", method.takes), ("out", method.gives)):
        lines += [
            f"      <arg name={quoteattr(name)} type={quoteattr(type_)} direction={quoteattr(direction)}/>"
            for name, type_ in arguments
        ]
    lines.append("    </method>")
    return lines


def _introspect(target: Target, _: list[object]) -> Answer:
    return Body("s", encode("s", [introspect(target)]))


STANDARD_INTROSPECTABLE = Interface(
    INTROSPECTABLE, (Method("Introspect", _introspect, gives=(("xml", "s"),)),)
)
