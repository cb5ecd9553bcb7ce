"""HTTP checks on a request before there is an MCP session: origin, headers, caching.

MCP 2026-07-28, transports (Security Warning; Standard MCP Request Headers), RFC 6454, RFC 9111.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from fastmcp import FastMCP
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    decode_header_value,
    find_duplicated_routing_header,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import Message, Receive, Send

from mcp_plugin.fastmcp_compat import sdk_server
from pdp_client import ConfigurationError

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes; the MCP SDK refuses a longer body."""

_NOT_STORED: Final = (b"cache-control", b"no-store, no-transform")

_WITHOUT_ORIGIN: Final = frozenset(
    {"", "about", "blob", "data", "file", "ftp", "javascript", "mailto", "ws", "wss"}
)
"""Schemes whose pages have the origin `null`, or that have no pages."""

_log = logging.getLogger(__name__)

SESSION: Final = MCP_SESSION_ID_HEADER.encode()

Headers = Sequence[tuple[bytes, bytes]]


class RequestBody:
    """The body of a request, read ahead; later ASGI applications can still receive it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self._content = b""
        self._whole = False

    async def read(self, at_most: int) -> bytes | None:
        """Read the whole body; return None if it is longer, or the client has disconnected."""
        while not self._whole and len(self._content) <= at_most:
            message = await self._receive()
            self._messages.append(message)
            if message["type"] != "http.request":
                return None
            self._content += message.get("body", b"")
            self._whole = not message.get("more_body")
        return self._content if len(self._content) <= at_most else None

    async def receive(self) -> Message:
        """Receive as in ASGI: first the messages read ahead, then the following ones."""
        return self._messages.pop(0) if self._messages else await self._receive()


def message_in(body: bytes | None) -> dict[str, Any] | None:
    """Return the JSON-RPC message that a body is; None for anything else, a batch included."""
    try:
        message: Any = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def method_and_name(message: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Return the method of a request or notification, and the name it is about, if any.

    Returns:
        None for another message.
    """
    method = message.get("method") if message else None
    if message is None or not isinstance(method, str):
        return None
    params = message.get("params")
    name = params.get(NAME_BEARING_METHODS.get(method, "")) if isinstance(params, dict) else None
    return method, name if isinstance(name, str) else ""


def is_reply(message: Mapping[str, Any] | None) -> bool:
    """Return whether this is a client's response to a request of the server's (JSON-RPC 2.0 §5).

    Elicitation, sampling and roots are such requests.
    """
    if message is None or "method" in message:
        return False
    return "id" in message and ("result" in message or "error" in message)


def needs_a_look(headers: Headers) -> bool:
    """Return whether routing headers are present in a protocol version that does not define them.

    In newer versions the SDK compares them with the body.
    """
    names = {name.lower() for name, _ in headers}
    version = header(headers, MCP_PROTOCOL_VERSION_HEADER.encode())
    older = version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
    return older and not names.isdisjoint((MCP_METHOD_HEADER.encode(), MCP_NAME_HEADER.encode()))


def is_misrouted(headers: Headers, body: bytes | None) -> bool:
    """Return whether the routing headers contradict the body.

    A proxy may route by them in any version of the protocol, so each must be correct and occur
    only once.
    """
    texts = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    if find_duplicated_routing_header(texts):
        return True
    said = dict(texts)
    found = method_and_name(message_in(body))
    if found is None:
        return True
    method, name = found
    if said.get(MCP_METHOD_HEADER, method) != method:
        return True
    header = said.get(MCP_NAME_HEADER)
    return header is not None and decode_header_value(header) != name


def is_repeated(headers: Headers, name: str) -> bool:
    """Return whether a header occurs more than once."""
    return sum(one.lower() == name.lower().encode() for one, _ in headers) > 1


def cors(origin: str | None) -> dict[str, str]:
    """Return the headers that let a page of an allowed origin read a response (Fetch, CORS).

    Args:
        origin: the request's `Origin`, which is allowed; None if there is none.
    """
    if origin is None:
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": "WWW-Authenticate, Mcp-Session-Id",
        "vary": "Origin",
    }


def header(headers: Headers, name: bytes) -> str | None:
    """Return a header's only value; empty if the header is repeated, None if it is absent."""
    values = [value for one, value in headers if one.lower() == name]
    return None if not values else values[0].decode("latin-1") if len(values) == 1 else ""


def origins(urls: Iterable[str]) -> frozenset[str]:
    """Return what browsers send as `Origin` from pages at these URLs (RFC 6454 §6.2).

    Extensions and webviews have origins too, such as `chrome-extension://` and their id.

    Raises:
        ConfigurationError: a URL is not of a kind that has an origin, or names no host.
    """
    found = set()
    for url in urls:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"{url}: not a URL") from None
        if parts.scheme in _WITHOUT_ORIGIN or not parts.hostname:
            raise ConfigurationError(f"{url}: not the URL of a page, an extension or a webview")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        default = port is None or port == {"http": 80, "https": 443}.get(parts.scheme)
        found.add(f"{parts.scheme}://{host}" + ("" if default else f":{port}"))
    return frozenset(found)


def no_store(send: Send) -> Send:
    """Wrap `send` so that no cache stores the response: it belongs to one caller."""

    async def send_uncached(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [one for one in message.get("headers", ()) if one[0].lower() != _NOT_STORED[0]]
            message = {**message, "headers": [*kept, _NOT_STORED]}
        await send(message)

    return send_uncached


def force_private_cache(server: FastMCP) -> None:
    """Prevent results from declaring that callers may share them (`cacheScope`).

    With `FastMCP(cache_scope="public")`, a gateway could show one caller's list to another.
    """
    hints = sdk_server(server).cache_hints
    public = [method for method, hint in hints.items() if hint.scope == "public"]
    for method in public:
        hints[method] = replace(hints[method], scope="private")
    if public:
        _log.warning("mcp_auth.cache_scope public is not possible here; it is private")


async def respond(
    send: Send, status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """Send a JSON response."""
    body = json.dumps(document).encode()
    sent = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
