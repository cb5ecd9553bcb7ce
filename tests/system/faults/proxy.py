"""Proxies that stand between two real parts, and do to what passes whatever a fault wants.

`Relay` passes bytes, over TCP or a unix socket. `BundleProxy` reads HTTP and so can pick bundles by their name.
"""

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_CHUNK = 1 << 16
END = b"\r\n\r\n"


def http(status, body=b"", *headers):
    """The bytes of an HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + END + body


def flipped(content, rng):
    """The same with one bit of it the other way round."""
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@dataclass
class ProxyFault:
    """What happens to what passes.

    Attributes:
        kind: `refuse`, `half open`, `frozen`, `slow`, `cut`, `flip`, or `answer`: `body` is the answer.
        seconds: of `slow`, before each piece that comes back.
        names: for `BundleProxy`, what is meant; nothing means all, also status reports.
        change: for `BundleProxy`, of kind `change`: what is handed out in place of an answer.
    """

    kind: str
    seconds: float = 0.0
    body: bytes = b""
    names: tuple[str, ...] = ()
    change: Callable[[str, bytes, bytes], Awaitable[bytes] | bytes] | None = None
    rng: random.Random | None = None
    met: int = 0


class Proxy(ABC):
    """Listens for as long as it is open; `fault` is what it does wrong, or None."""

    def __init__(self, where, to):
        self.where, self._to = where, to
        self.fault = None
        self._tasks = set()

    async def start(self):
        if isinstance(self.where, int):
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.where)
        else:
            self._listener = await asyncio.start_unix_server(self._accept, self.where)
        return self

    async def stop(self):
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, fault):
        self.fault = fault
        self.cut()

    def end(self):
        """Nothing is wrong any more; what hung is closed, as by a host that is back and knows nothing of it."""
        fault, self.fault = self.fault, None
        self.cut()
        return fault.met if fault else 0

    def cut(self):
        """Close open connections, so that their owners meet the new fault."""
        for task in list(self._tasks):
            task.cancel()

    def _accept(self, reader, writer):
        task = asyncio.ensure_future(self._handle(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Also of one that is cancelled before it has begun.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _handle(self, reader, writer):
        try:
            await self.serve(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.transport.abort()

    async def connect(self):
        if isinstance(self._to, int):
            return await asyncio.open_connection("127.0.0.1", self._to, limit=1 << 24)
        return await asyncio.open_unix_connection(self._to, limit=1 << 24)

    @abstractmethod
    async def serve(self, reader, writer):
        """Handle one connection."""


class Relay(Proxy):
    """Passes bytes on, both ways."""

    async def serve(self, reader, writer):
        if self.fault and self.fault.kind == "refuse":
            self.fault.met += 1
            return
        fault = self.fault
        if fault and fault.kind in {"half open", "answer"}:
            await self._alone(fault, reader, writer)
            return
        back, there = await self.connect()
        ways = [
            asyncio.ensure_future(self._pass(reader, there, answers=False)),
            asyncio.ensure_future(self._pass(back, writer, answers=True)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            # Before anything that waits: a second cancellation meanwhile would end this here.
            there.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _alone(self, fault, reader, writer):
        """There is no server behind it."""
        while await reader.read(_CHUNK):
            fault.met += 1
            if fault.kind == "answer":
                writer.write(fault.body)
                await writer.drain()

    async def _pass(self, reader, writer, *, answers):
        while data := await reader.read(_CHUNK):
            fault = self.fault
            if fault and answers:
                fault.met += 1
                if fault.kind == "slow":
                    await asyncio.sleep(fault.seconds)
                elif fault.kind == "cut":
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    return
                elif fault.kind == "flip":
                    data = flipped(data, fault.rng)
            writer.write(data)
            await writer.drain()


class BundleProxy(Proxy):
    """Stands between OPA and `lictor serve`, and remembers the last whole answer for each bundle."""

    def __init__(self, where, to):
        super().__init__(where, to)
        self.seen = {}
        self._under_way = {}

    async def serve(self, reader, writer):
        while True:
            head = await reader.readuntil(END)
            body = await reader.readexactly(int(field(head, "content-length") or 0))
            name = head.split(b" ", 2)[1].decode().rpartition("/")[2].removesuffix(".tar.gz")
            self._under_way[asyncio.current_task()] = name
            try:
                answer = await self._answer(name, head, body, writer)
            finally:
                self._under_way.pop(asyncio.current_task(), None)
            if answer is None:
                return
            writer.write(answer)
            await writer.drain()

    def under_way(self):
        """The bundles that are being requested."""
        return sorted(self._under_way.values())

    def cut(self):
        """Only what the fault is about: other connections live on."""
        for task in list(self._tasks):
            if self._meant(self.fault, self._under_way.get(task, "")):
                task.cancel()

    def _meant(self, fault, name):
        return fault is None or not fault.names or name in fault.names

    async def _answer(self, name, head, body, writer):
        """The bytes of an answer; None closes the connection."""
        fault = self.fault if self.fault and self._meant(self.fault, name) else None
        if fault is None:
            return await self._upstream(name, head, body)
        fault.met += 1
        match fault.kind:
            case "refuse":
                return None
            case "half open":
                await asyncio.Event().wait()
            case "answer":
                return fault.body
            case "slow":
                answer = await self._upstream(name, without_wait(head), body)
                for start in range(0, len(answer), 200):
                    writer.write(answer[start : start + 200])
                    await writer.drain()
                    await asyncio.sleep(fault.seconds)
                return b""
            case "cut":
                answer = await self._upstream(name, always_whole(head), body)
                writer.write(answer[: len(answer) * 2 // 3])
                with contextlib.suppress(OSError):
                    await writer.drain()
                return None
        answer = await self._upstream(name, always_whole(head), body)
        status, _, content = answer.partition(END)
        changed = fault.change(name, status, content)
        if asyncio.iscoroutine(changed):
            changed = await changed
        # As often as not at once again: OPA is not to be driven round in a circle.
        await asyncio.sleep(0.2)
        return changed

    async def _upstream(self, name, head, body):
        back, there = await self.connect()
        try:
            there.write(with_field(head, "Connection", "close") + body)
            await there.drain()
            whole = await back.read()
        finally:
            there.transport.abort()
        status, end, content = whole.partition(END)
        if not end:
            raise ConnectionError("closed without an answer")
        if status.startswith(b"HTTP/1.1 200") and field(status, "etag"):
            self.seen[name] = (field(status, "etag"), content)
        return with_field(status + END, "Connection", "keep-alive") + content


def field(head, name):
    """A header's value, or an empty string."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name.encode():
            return value.strip().decode()
    return ""


def with_field(head, name, value):
    """A head with one header set anew, or without it where the value is empty."""
    lines = head.removesuffix(END).split(b"\r\n")
    kept = [one for one in lines if not one.lower().startswith(name.lower().encode() + b":")]
    if value:
        kept.append(f"{name}: {value}".encode())
    return b"\r\n".join(kept) + END


def without_wait(head):
    return with_field(head, "Prefer", "")


def always_whole(head):
    """The request without its ETag: the response is the whole bundle, at once."""
    return with_field(without_wait(head), "If-None-Match", "")


def bundle_answer(content, etag):
    """A bundle, as `lictor serve` hands it out."""
    return http(
        "200 OK", content, "Content-Type: application/vnd.openpolicyagent.bundles", f"ETag: {etag}"
    )
