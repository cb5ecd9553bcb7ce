"""The two roads to OPA, behind one small interface.

`unix://` is the default and the fast one (`unix_road`). `http://` and `https://`, for an OPA in a
container or on another host, are opa-python-client, held to the same rules: no retries, no
redirects, nothing but 200, nothing that is not JSON. The deadline is the caller's, over all of it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import aiohttp
from opa_client.opa_async import AsyncOpaClient

from pdp_client.exceptions import AnswerUnusable, ConfigurationError, OPAUnreachable
from pdp_client.unix_road import UnixRoad

Rule = Literal["decision", "visible"]
"""What can be asked. A caller's text never becomes part of a URL."""

LARGEST_ANSWER = 16 << 20


class Road(Protocol):
    """A way to ask OPA."""

    async def ask(self, rule: Rule, question: Mapping[str, Any]) -> Any:
        """Ask for a rule of package `lictor` and return its `result`.

        Args:
            rule: the entrypoint.
            question: the `input` document.

        Raises:
            OPAUnreachable: there was no answer.
            AnswerUnusable: there was one, but not 200 with JSON that has a `result`.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def open_road(
    url: str, *, token: str | None = None, client_cert: tuple[str, str] | None = None
) -> Road:
    """The road that a URL names; nothing is opened before the first question.

    Args:
        url: `unix:///path/to/opa.sock`, `http://host:port` or `https://host:port`.
        token: the bearer that OPA asks for (`--authentication=token`).
        client_cert: certificate and key files for mutual TLS; `https` only.

    Raises:
        ConfigurationError: the URL has another form.
    """
    parts = urlsplit(url)
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme == "unix" and parts.path and not parts.netloc and bare and not client_cert:
        return UnixRoad(parts.path, token=token)
    if parts.scheme in {"http", "https"} and parts.hostname and bare and parts.path in {"", "/"}:
        return HTTPRoad(
            parts.hostname,
            parts.port or 8181,
            tls=parts.scheme == "https",
            token=token,
            client_cert=client_cert,
        )
    # Not quoted: a URL may hold a password.
    raise ConfigurationError("OPA's URL is unix:///path, http://host:port or https://host:port")


class HTTPRoad:
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

    async def ask(self, rule: Rule, question: Mapping[str, Any]) -> Any:
        """As `Road.ask`."""
        try:
            # aiohttp would send NaN; what is no JSON must fail here as on the other road.
            json.dumps(question, allow_nan=False)
            answer = await self._client.query_rule(
                question, "lictor", rule, {"strict-builtin-errors": "true"}
            )
        except (aiohttp.ClientError, OSError) as error:
            raise OPAUnreachable(type(error).__name__) from None
        except (TypeError, ValueError, RecursionError):
            raise AnswerUnusable("question or answer is no JSON") from None
        return result_of(answer)

    async def aclose(self) -> None:
        """As `Road.aclose`."""
        await self._client.close_connection()


class _Answer:
    """As much of aiohttp's response as `query_rule` uses, after the whole body was read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def raise_for_status(self) -> None:
        """Other statuses than 200 have been refused before."""

    async def json(self) -> Any:
        return json.loads(self._body)


class _StrictClient(AsyncOpaClient):  # type: ignore[misc]  # the library has no types
    """opa-python-client without its retries and redirects, and with a bounded answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def _request(self, method: str, url: str, **kwargs: Any) -> AsyncIterator[_Answer]:
        async with self._opening:
            if self._session is None:
                await self._init_session()
        request = self._session.request(method, url, allow_redirects=False, **kwargs)
        async with request as response:
            if response.status != 200:  # noqa: PLR2004 - HTTP's own number
                raise AnswerUnusable(f"HTTP {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise AnswerUnusable("an answer past 16 MiB")
            yield _Answer(bytes(body))


def result_of(answer: Any) -> Any:
    """The `result` of OPA's answer.

    Raises:
        AnswerUnusable: there is none; so answers an OPA that has no bundle, with 200.
    """
    if not isinstance(answer, dict) or "result" not in answer:
        raise AnswerUnusable("no `result`")
    return answer["result"]
