"""Servers that misbehave, on a unix socket or a TCP port; a disk that is full. Faults of transport and storage only."""

import asyncio
import json
import resource
from contextlib import asynccontextmanager, contextmanager

ALLOW = {
    "allow": True, "reason": "ok", "reasons": ["ok"], "message": "",
    "principal": {"type": "token", "id": "lct_…", "name": "Ada", "user": "ada"},
    "libraries": [], "epoch": 1, "revision": 42, "data_age_ms": 1, "valid_until": None,
    "uses_arguments": False,
}  # fmt: skip


class FaultyServer:
    """Counts what it gets; what it does is the test's `handler(server, reader, writer)`."""

    def __init__(self, handler):
        self._handler = handler
        self.connections = 0
        self.requests = []
        self.url = ""

    async def handle(self, reader, writer):
        self.connections += 1
        try:
            await self._handler(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def request(self, reader):
        """Read one request and return its body."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = {}
        for line in head.splitlines()[1:-1]:
            name, _, value = line.partition(": ")
            fields[name.lower()] = value
        body = await reader.readexactly(int(fields["content-length"]))
        self.requests.append((head.splitlines()[0], fields, json.loads(body)))
        return body


@asynccontextmanager
async def faulty(kind, handler, folder):
    """A server of a kind, `unix` or `tcp`, until the context ends."""
    server = FaultyServer(handler)
    tasks = set()

    def accept(reader, writer):
        task = asyncio.ensure_future(server.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if kind == "unix":
        path = folder / "faulty.sock"
        listener = await asyncio.start_unix_server(accept, path)
        server.url = f"unix://{path}"
    else:
        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer(body, *, status="200 OK", headers=()):
    """The bytes of an HTTP answer."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def always(raw):
    """A handler that gives the same bytes to each question, and then closes."""

    async def handler(server, reader, writer):
        await server.request(reader)
        writer.write(raw)
        await writer.drain()

    return handler


@contextmanager
def largest_file(size):
    """The disk is full, as far as this process can tell."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
