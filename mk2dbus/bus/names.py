"""Names on the bus, each written once."""

BUS_ITEM = "com.victronenergy.BusItem"
ERROR_PREFIX = "com.victronenergy.BusItem.Error."
"""Followed by the class name of the :class:`mk2dbus.items.WriteFailed`."""

RAW = "io.github.mk2dbus.Raw"
"""On :data:`DEVICES`: what goes beyond the values of items, for the command-line tool."""

DEVICES = "/Devices"

SERVICE_PREFIX = "com.victronenergy.vebus."
"""Followed by the port: ``com.victronenergy.vebus.ttyUSB0``."""

PEER = "org.freedesktop.DBus.Peer"
PROPERTIES = "org.freedesktop.DBus.Properties"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"

SETTINGS = "com.victronenergy.settings"
"""The settings service of Venus ("localsettings")."""
SETTINGS_INTERFACE = "com.victronenergy.Settings"

DAEMON = "org.freedesktop.DBus"
"""Name and interface of the bus daemon itself."""
DAEMON_PATH = "/org/freedesktop/DBus"

ITEMS_CHANGED = "ItemsChanged"
PROPERTIES_CHANGED = "PropertiesChanged"
"""Of BusItem, on the path of the item: how services of an older make tell changes."""

FAILED = "org.freedesktop.DBus.Error.Failed"
INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"
LIMITS_EXCEEDED = "org.freedesktop.DBus.Error.LimitsExceeded"
PROPERTY_READ_ONLY = "org.freedesktop.DBus.Error.PropertyReadOnly"
NO_REPLY = "org.freedesktop.DBus.Error.NoReply"
UNKNOWN_INTERFACE = "org.freedesktop.DBus.Error.UnknownInterface"
UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"
UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"
UNKNOWN_PROPERTY = "org.freedesktop.DBus.Error.UnknownProperty"
ACCESS_DENIED = "org.freedesktop.DBus.Error.AccessDenied"
