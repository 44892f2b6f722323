"""One connection to a bus daemon: authentication, calls, replies, signals, and what to do when it is slow.

Outgoing messages are queued and sent as the socket takes them. While more than :data:`BACKLOG_BOUND` bytes
wait, no further message is taken from the socket: calls then wait in the daemon, memory stays bounded, and
nothing that the daemon accepted is lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from . import library, names
from .address import SocketAddress, candidates, resolve
from .errors import (
    BusError,
    BusUnreachable,
    CallFailed,
    CallTimedOut,
    ConnectionLost,
    Malformed,
    NameRefused,
    NameTaken,
)
from .wire import NOTHING, Body, Cutter, Message, MessageType, encode_header, encode_reply

log = logging.getLogger(__name__)

BACKLOG_BOUND = 1 << 20
"""Bytes that may wait to be sent before reading stops."""

CONNECT_TIMEOUT_S = 5.0
"""For everything until the daemon has told our unique name; a live one needs milliseconds."""

CALL_TIMEOUT_S = 5.0

_READ_SIZE = 1 << 16
_PIECES_AT_ONCE = 64  # of what goes out in one system call; Linux allows 1024
_SMALL = 1 << 12  # bytes of a body that are cheaper copied than sent as a piece of their own
_MAX_AUTH_LINE = 4096
_STALL_S = 0.05  # between reading and handling; else nothing comes in between that takes time

# Answers of RequestName and flags to it, D-Bus specification, "Message Bus Messages".
_DO_NOT_QUEUE = 0x4
_PRIMARY_OWNER, _ALREADY_OWNER = 1, 4

CallHandler = Callable[["Connection", Message], None]
SignalHandler = Callable[[Message], None]


class Connection:
    """A connection that is up, until :attr:`lost` is done. Made by :meth:`open`.

    ``on_call`` gets every method call, ``on_signal`` every signal; neither may block, and what they raise is
    logged and ends nothing.
    """

    def __init__(self, sock: socket.socket, on_call: CallHandler, on_signal: SignalHandler) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_call = on_call
        self._on_signal = on_signal
        self._cutter = Cutter()
        # Pieces of messages. An answer that is kept encoded is not copied, however many wait for it.
        self._out: deque[bytes | memoryview] = deque()
        self._backlog = 0
        self._serial = 0
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._reading = False
        self._writing = False
        self._flush_due = False
        self.unique_name = ""
        self.on_drained: Callable[[], None] | None = None
        """Called when everything that had to wait has been sent."""
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done when the connection is gone, with the reason."""

    @classmethod
    async def open(
        cls, bus: str, *, on_call: CallHandler | None = None, on_signal: SignalHandler | None = None
    ) -> Connection:
        """Connect to ``system``, ``session`` or an address. Leaves nothing open when it fails.

        Raises:
            BusUnreachable: nobody there, not let in, or no answer in time.
        """
        errors = []
        for family, address in candidates(resolve(bus)):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    sock = await _connect(family, address)
                    connection = cls(sock, on_call or _refuse, on_signal or _ignore)
                    try:
                        connection._read_on()
                        (connection.unique_name,) = await connection.call_daemon("Hello")
                    except BaseException:
                        connection._end("could not say hello")
                        raise
                    return connection
            except TimeoutError:
                errors.append(f"no answer within {CONNECT_TIMEOUT_S:g} s")
            except BusError as error:
                errors.append(str(error))
            except OSError as error:
                errors.append(error.strerror or str(error))
        where = f"{bus} bus" if bus in ("system", "session") else f"bus at {bus}"
        raise BusUnreachable(f"cannot reach the {where}: {'; '.join(dict.fromkeys(errors))}")

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent."""
        return self._backlog

    @property
    def stalled(self) -> bool:
        """Whether the socket took no more; :attr:`on_drained` tells when it has taken everything."""
        return self._writing

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> list[Any]:
        """Call a method and return what it returned.

        Raises:
            CallFailed: answered with an error, or with something that cannot be read.
            CallTimedOut: no answer in ``timeout_s``; the call may have been carried out all the same.
            ConnectionLost: the connection is, or went, down; the call may have been carried out.
        """
        if self.lost.done():
            raise _gone(self.lost.result())
        data = library.encode(signature, body) if signature else b""
        message = Message(
            MessageType.METHOD_CALL,
            path=path,
            interface=interface,
            member=member,
            destination=destination,
            signature=signature,
        )
        answer: asyncio.Future[Message] = self._loop.create_future()
        serial = self._next_serial()
        self._waiting[serial] = answer
        try:
            self._send(message, data, serial)
            async with asyncio.timeout(timeout_s):
                reply = await answer
        except TimeoutError as error:
            raise CallTimedOut(f"{destination} did not answer {member} within {timeout_s:g} s") from error
        finally:
            self._waiting.pop(serial, None)
        if reply.truncated:
            raise CallFailed(names.LIMITS_EXCEEDED, f"the answer of {destination} to {member} is too long")
        try:
            values = library.decode(reply)
        except Malformed as error:
            raise CallFailed(names.FAILED, str(error)) from error
        if reply.type == MessageType.ERROR:
            raise CallFailed(reply.error_name, str(values[0]) if values else "")
        return values

    async def call_daemon(self, member: str, signature: str = "", body: Sequence[object] = ()) -> list[Any]:
        """Call a method of the bus daemon itself; raises as :meth:`call`."""
        return await self.call(names.DAEMON, names.DAEMON_PATH, names.DAEMON, member, signature, body)

    async def request_name(self, name: str) -> None:
        """Own a name, or fail: there is no queueing.

        Raises:
            NameTaken: somebody else has it.
            NameRefused: the policy of the bus forbids it, or it is no name.
        """
        try:
            (code,) = await self.call_daemon("RequestName", "su", [name, _DO_NOT_QUEUE])
        except CallFailed as error:
            hint = (
                "; does its configuration have the policy file of mk2dbus?"
                if error.name == names.ACCESS_DENIED
                else ""
            )
            raise NameRefused(f"the bus refuses the name {name}: {error}{hint}") from error
        if code not in (_PRIMARY_OWNER, _ALREADY_OWNER):
            raise NameTaken(f"{name} is already on the bus: is another instance running?")

    async def release_name(self, name: str) -> None:
        await self.call_daemon("ReleaseName", "s", [name])

    async def add_match(self, rule: str) -> None:
        """Ask for the signals that fit a match rule."""
        await self.call_daemon("AddMatch", "s", [rule])

    def reply(self, call: Message, body: Body = NOTHING) -> None:
        """Answer a call; nothing is sent when the caller wants no answer or the connection is gone."""
        if not call.no_reply:
            signature, data = body
            self._put(encode_reply(self._next_serial(), call.serial, call.sender, signature, len(data)), data)

    def reply_error(self, call: Message, name: str, text: str) -> None:
        """Answer a call with an error; as :meth:`reply` otherwise."""
        if not call.no_reply:
            message = Message(
                MessageType.ERROR,
                error_name=name,
                reply_serial=call.serial,
                destination=call.sender,
                signature="s",
            )
            shown = text.replace("\0", "").encode(errors="replace").decode()
            self._send(message, library.encode("s", [shown]), self._next_serial())

    def signal(self, path: str, interface: str, member: str, body: Body) -> None:
        """Send a signal to whoever listens; nothing when the connection is gone."""
        message = Message(
            MessageType.SIGNAL,
            path=path,
            interface=interface,
            member=member,
            signature=body.signature,
            no_reply=True,
        )
        self._send(message, body.data, self._next_serial())

    def close(self) -> None:
        """End the connection; who waits for an answer gets ConnectionLost. What is unsent is dropped."""
        self._end("closed")

    def _next_serial(self) -> int:
        self._serial = self._serial % 0xFFFFFFFF + 1
        return self._serial

    def _send(self, message: Message, data: bytes, serial: int) -> None:
        message.serial = serial
        self._put(encode_header(message, len(data)), data)

    def _put(self, header: bytes, data: bytes) -> None:
        if self.lost.done():
            return
        self._backlog += len(header) + len(data)
        if len(data) <= _SMALL:
            self._out.append(header + data)
        else:
            self._out.append(header)
            self._out.append(data)
        if not self._flush_due and not self._writing:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what the socket takes; the rest goes when it is writable again."""
        self._flush_due = False
        if self.lost.done():
            return
        try:
            while self._out:
                self._sent(self._sock.sendmsg(islice(self._out, _PIECES_AT_ONCE)))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if self._out:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._sock, self._flush)
        elif self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock)
            if self.on_drained is not None:
                self.on_drained()
        if not self._reading and self._backlog <= BACKLOG_BOUND // 2:
            self._read_on()

    def _sent(self, count: int) -> None:
        """Take from the queue what the socket took."""
        self._backlog -= count
        while count:
            piece = self._out.popleft()
            if len(piece) > count:
                self._out.appendleft(memoryview(piece)[count:])
                return
            count -= len(piece)

    def _read_on(self) -> None:
        """Start reading, or go on with it: first what was cut already but not yet handled."""
        self._reading = True
        self._loop.add_reader(self._sock, self._readable)
        self._loop.call_soon(self._handle_messages)

    def _pause(self) -> None:
        self._reading = False
        self._loop.remove_reader(self._sock)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if not data:
            self._end("the bus daemon ended the connection")
            return
        self._cutter.feed(data)
        self._handle_in_turn()

    def _handle_in_turn(self) -> None:
        """Handle what was read behind the timers that are due: when this process stood still, values have to
        be withdrawn before anybody is told them."""
        now = self._loop.time()
        self._loop.call_at(now, self._handle_unless_stalled, now)

    def _handle_unless_stalled(self, since: float) -> None:
        if self._loop.time() > since + _STALL_S:
            self._handle_in_turn()
        else:
            self._handle_messages()

    def _handle_messages(self) -> None:
        if self.lost.done() or not self._reading:
            return
        self._flush_due = (
            True  # at the end of this: the answers to all that came in one read leave in one write
        )
        try:
            for message in self._cutter.messages():
                if isinstance(message, Malformed):
                    log.warning("a message was left out: %s", message)
                else:
                    self._handle(message)
                if self._backlog > BACKLOG_BOUND:
                    self._flush()
                if self.lost.done():
                    return
                if self._backlog > BACKLOG_BOUND:
                    self._pause()
                    return
        except Malformed as error:
            self._end(f"not a D-Bus stream: {error}")
        finally:
            self._flush()

    def _handle(self, message: Message) -> None:
        if message.type in (MessageType.METHOD_RETURN, MessageType.ERROR):
            answer = self._waiting.pop(message.reply_serial, None)
            if answer is not None and not answer.done():
                answer.set_result(message)
            return
        try:
            if message.type == MessageType.METHOD_CALL:
                self._on_call(self, message)
            elif message.type == MessageType.SIGNAL:
                self._on_signal(message)
        # Whatever a stranger's message brings about: it is one message, the service goes on.
        except Exception:
            log.exception("handling %s of %s failed", message.member, message.sender)
            if message.type == MessageType.METHOD_CALL:
                self.reply_error(message, names.FAILED, "internal error")

    def _end(self, reason: str) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._out.clear()
        self._backlog = 0
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_gone(reason))


def _gone(reason: str) -> ConnectionLost:
    return ConnectionLost(f"the connection to the bus is gone: {reason}")


def _refuse(connection: Connection, call: Message) -> None:
    """For connections that only ask."""
    connection.reply_error(call, names.UNKNOWN_OBJECT, f"there is no object {call.path}")


def _ignore(signal: Message) -> None:
    """For connections that listen to nothing."""


async def _connect(family: socket.AddressFamily, address: SocketAddress) -> socket.socket:
    """A socket on which messages can be exchanged from now on. OSError or BusUnreachable."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        await loop.sock_connect(sock, address)
        # D-Bus specification, "Authentication Protocol"; EXTERNAL: the daemon asks the kernel who we are.
        user = str(os.getuid()).encode().hex()
        await loop.sock_sendall(sock, f"\0AUTH EXTERNAL {user}\r\n".encode())
        line = b""
        while not line.endswith(b"\r\n"):
            data = await loop.sock_recv(sock, _MAX_AUTH_LINE)
            if not data or len(line) > _MAX_AUTH_LINE:
                raise BusUnreachable("what answers there does not speak D-Bus")
            line += data
        if not line.startswith(b"OK "):
            raise BusUnreachable("the daemon does not accept this user")
        await loop.sock_sendall(sock, b"BEGIN\r\n")
    except BaseException:
        sock.close()
        raise
    return sock
