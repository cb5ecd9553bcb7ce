"""A small MCP client over streamable HTTP that costs its process little CPU time.

FastMCP's own client takes longer for a call than the server that answers it, and would be what is
measured. This one sends prepared bytes over connections that stay open.
"""

import asyncio
import itertools
import json

import httptools

_ID = 100_000_000
"""The first id of a call. All have the same number of digits, so that bytes can be prepared."""

_HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}
_SEARCH = {
    "jsonrpc": "2.0",
    "id": _ID,
    "method": "tools/call",
    "params": {"name": "search", "arguments": {"query": "raven"}},
}
_READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


class _Connection(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self):
        self.usable = True
        self._response = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _):
        self.usable = False
        if self._response and not self._response.done():
            self._response.set_exception(ConnectionError("closed"))

    def data_received(self, data):
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, AttributeError):
            self.transport.abort()

    def on_header(self, name, value):
        self._headers[name.lower()] = value

    def on_headers_complete(self):
        self.began.set()

    def on_body(self, body):
        self._body += body

    def on_message_complete(self):
        self.usable = self.usable and self._parser.should_keep_alive()
        if not self._response.done():
            status = self._parser.get_status_code()
            self._response.set_result((status, self._headers, bytes(self._body)))

    def send(self, request):
        """Send a request, and return the future of its status, headers and body."""
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body, self.began = {}, bytearray(), asyncio.Event()
        self._response = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._response


class Client:
    """Connections to one port of this host, and the requests that go over them."""

    def __init__(self, port):
        self._port, self._idle = port, []

    def request(self, method, bearer, session=None, body=None):
        """The bytes of a request."""
        data = b"" if body is None else json.dumps(body).encode()
        named = f"Mcp-Session-Id: {session}\r\n" if session else ""
        return (
            f"{method} /mcp HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{named}"
            "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {bearer}\r\nContent-Length: {len(data)}\r\n\r\n"
        ).encode() + data

    async def connect(self):
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(_Connection, "127.0.0.1", self._port))[1]

    async def exchange(self, request, seconds):
        """Send a request, and return the status, headers and body of the response.

        Raises:
            TimeoutError: there was none in so many seconds.
            OSError: the server cannot be reached, or closed the connection.
        """
        connection = None
        while self._idle and not (connection and connection.usable):
            connection = self._idle.pop()
        async with asyncio.timeout(seconds):
            if not (connection and connection.usable):
                connection = await self.connect()
            try:
                response = await connection.send(request)
            except BaseException:
                connection.transport.abort()
                raise
        if connection.usable:
            self._idle.append(connection)
        return response

    def close(self):
        while self._idle:
            self._idle.pop().transport.abort()


class Session:
    """A session of one bearer, and its stream if it has one."""

    def __init__(self, client, bearer):
        self._client, self._bearer, self._stream = client, bearer, None
        self._ids = itertools.count(_ID)

    async def open(self, *, stream=False):
        hello = self._client.request("POST", self._bearer, body=_HELLO)
        status, headers, _ = await self._client.exchange(hello, 30)
        assert status == 200, status
        self.id = headers[b"mcp-session-id"].decode()
        ready = self._client.request("POST", self._bearer, self.id, _READY)
        await self._client.exchange(ready, 30)
        self._search = self._client.request("POST", self._bearer, self.id, _SEARCH)
        if stream:
            self._stream = await self._client.connect()
            self._stream.send(self._client.request("GET", self._bearer, self.id)).add_done_callback(
                lambda future: future.cancelled() or future.exception()
            )
            await asyncio.wait_for(self._stream.began.wait(), 30)
        return self

    async def search(self, seconds):
        """Call the tool `search`, and return `ok`, the reason of a refusal, or what went wrong."""
        # Two calls of one session that are under way must not have the same id.
        request = self._search.replace(b"%d" % _ID, b"%d" % next(self._ids))
        try:
            status, _, body = await self._client.exchange(request, seconds)
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return type(error).__name__
        return f"HTTP {status}" if status != 200 else _outcome(body)

    async def close(self):
        """Drop the stream as a client does that goes away, and end the session."""
        if self._stream:
            self._stream.transport.abort()
        await self._client.exchange(self._client.request("DELETE", self._bearer, self.id), 30)


def _outcome(body):
    lines = [line for line in body.splitlines() if line.startswith((b"data: ", b"{"))]
    try:
        result = json.loads(lines[-1].removeprefix(b"data: "))["result"]
    except (IndexError, ValueError, KeyError):
        return "no result"
    if not result.get("isError"):
        return "ok"
    return result.get("_meta", {}).get("lictor/denial", {}).get("reason", "error")
