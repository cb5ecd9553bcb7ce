"""OPA over TCP or TLS: opa-python-client, restricted to the rules of the other transport.

It does not retry or follow redirects, and accepts only JSON with status 200.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from opa_client.opa_async import AsyncOpaClient

from pdp_client.exceptions import OPAUnreachableError, ResponseUnusableError
from pdp_client.opa.wire import LARGEST, decode_error, decode_result, encode_query


class HTTPTransport:
    """OPA over TCP or TLS, through opa-python-client."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: bool = False,
        token: str | None = None,
        client_cert: tuple[str, str] | None = None,
    ) -> None:
        self._client = _StrictClient(
            f"[{host}]" if ":" in host else host,
            port,
            ssl=tls,
            cert=client_cert,
            token=token,
            retries=0,
            timeout=None,
        )

    async def query(self, entrypoint: str, document: Mapping[str, Any]) -> Any:
        """As `Transport.query`."""
        try:
            body = await self._client.query_rule(
                document, "lictor", entrypoint, {"strict-builtin-errors": "true"}
            )
        except (aiohttp.ClientError, OSError) as error:
            raise OPAUnreachableError(type(error).__name__) from None
        return decode_result(body)

    async def aclose(self) -> None:
        """As `Transport.aclose`."""
        await self._client.close_connection()


@dataclass(frozen=True, slots=True)
class _Answer:
    """The part of aiohttp's response that `query_rule` uses, after the whole body was read."""

    body: bytes

    def raise_for_status(self) -> None:
        """Do nothing: statuses other than 200 have already been refused."""

    async def json(self) -> bytes:
        """Return the bytes, for `decode_result` to parse as strictly."""
        return self.body


@dataclass(slots=True)
class _Attempt:
    reused: bool = False


async def _note_reuse(_: object, context: Any, __: object) -> None:
    context.trace_request_ctx.reused = True


class _StrictClient(AsyncOpaClient):  # type: ignore[misc]  # the library has no types
    """opa-python-client without its retries and redirects, and with a bounded response."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._session: Any = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def close_connection(self) -> None:
        self._closed = True
        await super().close_connection()

    async def _init_session(self) -> None:
        # The library's connector, with its TLS, under a session as strict as the other transport.
        await super()._init_session()
        self._session.detach()
        reuse = aiohttp.TraceConfig()
        reuse.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            headers=self.headers,
            connector=self._connector,
            json_serialize=encode_query,
            timeout=aiohttp.ClientTimeout(total=None),
            trace_configs=[reuse],
        )

    @asynccontextmanager
    async def _request(self, method: str, url: str, **kwargs: Any) -> AsyncIterator[_Answer]:
        async with self._opening:
            if self._closed:
                raise OPAUnreachableError("closed")
            if self._session is None:
                await self._init_session()
        async with await self._send(method, url, **kwargs) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LARGEST:
                    raise ResponseUnusableError("the response exceeds 16 MiB")
            if response.status != 200:  # noqa: PLR2004 - HTTP's own number
                raise decode_error(response.status, body)
        yield _Answer(bytes(body))

    async def _send(self, method: str, url: str, **kwargs: Any) -> aiohttp.ClientResponse:
        session: aiohttp.ClientSession = self._session
        kwargs |= {"allow_redirects": False}
        attempt = _Attempt()
        try:
            return await session.request(method, url, trace_request_ctx=attempt, **kwargs)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not attempt.reused:
                raise
        # OPA closed an idle connection; it cannot have begun to respond. Retry once on a new one.
        return await session.request(method, url, trace_request_ctx=_Attempt(), **kwargs)
