"""The connection to `lictor serve`: signed requests, short timeouts, bounded responses."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from lictor_common.authenticator import NAMESPACE
from lictor_common.signed_exchange import SignedExchange
from pdp_client.exceptions import ConfigurationError
from pdp_client.shared.exceptions import ServeUnreachableError

TIMEOUT = 0.25
"""Seconds for a connection and a response: a decision waits for it."""

_LARGEST = 64 << 10
_MOST_CONNECTIONS = 32
_OK = 200

_REFUSALS = {
    401: "it has another key; is newest.key a copy of its own?",
    403: "its clock and ours differ too much",
    404: "nothing is shared there; does the URL name a lictor serve of this version?",
    409: "it is one of several, which share state through Redis: use their LICTOR_REDIS_URL",
    503: "it cannot do so now; see its log",
}


class ServeClient:
    """Sends requests to the `lictor serve` that instances share; for one event loop."""

    def __init__(
        self,
        url: str,
        *,
        key: bytes,
        namespace: str = NAMESPACE,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create the client; it connects on the first request.

        Args:
            url: `http://host:port` or `https://host:port`.
            key: what is in `newest.key`.
            namespace: the namespace of the messages.
            timeout: seconds for connecting and for the response, together.
            clock: seconds since 1970.

        Raises:
            ConfigurationError: the URL has another form.
        """
        self._url = _checked(url)
        self._exchange = SignedExchange(key, namespace=namespace)
        self._timeout = timeout
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and return what the response says.

        Raises:
            ServeUnreachableError: no response came in time, or it is to another request.
        """
        nonce, body = await self.post_raw(path, content)
        answer = self._exchange.verify_response(path, nonce, body)
        if answer is None:
            raise ServeUnreachableError("response is forged")
        return answer

    async def post_raw(
        self, path: str, content: Mapping[str, Any], *, wait: float = 0.0
    ) -> tuple[str, bytes]:
        """Send a request, and return its nonce and the body of the response, unverified.

        Args:
            path: one of `lictor_common.signed_exchange`.
            content: what to send. It may arrive twice.
            wait: seconds that the server may take in addition.

        Raises:
            ServeUnreachableError: no response with status 200 came in time.
        """
        try:
            async with asyncio.timeout(self._timeout + wait):
                return await self._attempt(path, content)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # The text of these may hold the URL.
            raise ServeUnreachableError(type(error).__name__) from None

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _attempt(self, path: str, content: Mapping[str, Any]) -> tuple[str, bytes]:
        nonce, body = self._exchange.request(path, content, at=self._clock())
        try:
            return nonce, await self._send(path, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # The server, or a proxy, has closed an idle connection: once more, on a new one.
            nonce, body = self._exchange.request(path, content, at=self._clock())
            return nonce, await self._send(path, body)

    async def _send(self, path: str, body: bytes) -> bytes:
        if self._closed:
            raise ServeUnreachableError("closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A compressed response could be much larger than what arrives of it.
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
            )
        async with self._session.post(
            self._url + path,
            data=body,
            headers={"Content-Type": "application/octet-stream"},
            allow_redirects=False,
        ) as response:
            if response.status != _OK:
                why = _REFUSALS.get(response.status, f"HTTP {response.status}")
                raise ServeUnreachableError(f"lictor serve refuses: {why}")
            received = bytearray()
            async for chunk in response.content.iter_any():
                received += chunk
                if len(received) > _LARGEST:
                    raise ServeUnreachableError("response exceeds 64 KiB")
            return bytes(received)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0
    except ValueError:
        port_is_valid = False
    bare = port_is_valid and not (parts.query or parts.fragment or parts.username or parts.password)
    if not bare or parts.scheme not in {"http", "https"} or not parts.hostname:
        # Not quoted: a URL may hold a password.
        raise ConfigurationError("the URL of lictor serve is http://host:port or https://host:port")
    if parts.path not in {"", "/"}:
        raise ConfigurationError("the URL of lictor serve has no path")
    return url.rstrip("/")
