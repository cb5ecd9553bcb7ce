"""OPA over a unix socket: keep-alive connections on asyncio, parsed by httptools.

It only POSTs JSON to a fixed path, at the cost of a bare exchange; docs/adr/0003 has the
measurements that justify it.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, cast, get_args

import httptools

from pdp_client.exceptions import OPAUnreachableError, ResponseUnusableError
from pdp_client.opa.query import Entrypoint
from pdp_client.opa.wire import LARGEST, decode_error, decode_result, encode_query

_MOST_IDLE = 32


class UnixSocketTransport:
    """A transport to the OPA behind a socket, with one connection for each query under way."""

    def __init__(self, path: str, *, token: str | None = None) -> None:
        self._path = path
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._heads = {
            rule: (
                f"POST /v1/data/lictor/{rule}?strict-builtin-errors=true HTTP/1.1\r\n"
                f"Host: opa\r\n{authorization}Content-Type: application/json\r\n"
                "Content-Length: "
            ).encode()
            for rule in get_args(Entrypoint)
        }
        self._idle: list[_Connection] = []
        self._closed = False

    async def query(self, entrypoint: str, document: Mapping[str, Any]) -> Any:
        """As `Transport.query`."""
        body = encode_query({"input": document}).encode()
        request = b"%b%d\r\n\r\n%b" % (self._heads[entrypoint], len(body), body)
        return decode_result(await self._exchange(request))

    async def aclose(self) -> None:
        """As `Transport.aclose`."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, request: bytes) -> bytes:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                break
        else:
            connection = await self._connect()
        reused = connection.reused
        try:
            answer = await connection.exchange(request)
        except _ClosedUnansweredError:
            if not reused:
                raise OPAUnreachableError("closed without a response") from None
            # OPA closed an idle connection; it cannot have begun to respond. Retry once, anew.
            connection = await self._connect()
            try:
                answer = await connection.exchange(request)
            except _ClosedUnansweredError:
                raise OPAUnreachableError("closed without a response") from None
        if connection.usable and not self._closed and len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    async def _connect(self) -> "_Connection":
        if self._closed:
            raise OPAUnreachableError("closed")
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(_Connection, self._path)
        except OSError as error:
            raise OPAUnreachableError(type(error).__name__) from None
        return connection


class _ClosedUnansweredError(Exception):
    """The peer closed the connection before the first byte of a response."""


class _Connection(asyncio.Protocol):
    """A connection with one exchange at a time; unusable after the first fault."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[bytes] | None = None
        self._body = bytearray()
        self._begun = False
        self.reused = False
        self.usable = True

    async def exchange(self, request: bytes) -> bytes:
        """Send a request and return the body of a 200.

        A cancelled exchange, for example by a deadline, closes the connection: otherwise its
        response could be mistaken for that of the next exchange.
        """
        if self._transport is None or not self.usable:
            raise _ClosedUnansweredError
        self._answer = asyncio.get_running_loop().create_future()
        self._body.clear()
        self._begun = False
        self._transport.write(request)
        try:
            return await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            self.reused = True
            self._answer = None

    def close(self) -> None:
        """Close the connection, and never use it again."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            # This data does not respond to a request.
            self.close()
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(ResponseUnusableError("the response is not HTTP"))
        except httptools.HttpParserUpgrade:
            self._fail(ResponseUnusableError("an unrequested protocol upgrade"))

    def connection_lost(self, _: Exception | None) -> None:
        broken = OPAUnreachableError("closed within a response")
        self._fail(broken if self._begun else _ClosedUnansweredError())

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.done():
            # A second response after the first: the next query must not read it as its own.
            self.usable = False

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > LARGEST:
            self._fail(ResponseUnusableError("the response exceeds 16 MiB"))

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.usable = False
        if status != 200:  # noqa: PLR2004 - HTTP's own number
            self._fail(decode_error(status, self._body))
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(bytes(self._body))

    def _fail(self, error: Exception) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
