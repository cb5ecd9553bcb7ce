"""What FastMCP knows about the request that carries a message: bearer, transport, version."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl

from fastmcp import Context
from fastmcp.server.dependencies import extract_version_spec
from fastmcp.utilities.versions import VersionSpec

from mcp_plugin.http.stdio import StdioBearer
from pdp_client.reasons import quote

Outcome = Literal["bearer", "none", "query", "repeated", "malformed"]

_log = logging.getLogger(__name__)


def extract(
    headers: Iterable[tuple[bytes, bytes]], query: bytes = b""
) -> tuple[Outcome, str | None]:
    """Read the bearer out of ASGI's raw headers; only those still show that one came twice.

    A bearer in the URL is refused, whether or not there is one in a header: URLs are logged, kept
    and sent on. RFC 6750 §2.1, §2.3 and §5.3, RFC 9110 §11.4.

    Args:
        headers: Names and values.
        query: The URL's, without `?`.

    Returns:
        What was found, and what stood after `Bearer `, unverified: None without any. Where that was
        done wrong it is empty, which no token is: the PDP refuses it as `invalid_token`.
    """
    if _holds_bearer(query):
        return "query", ""
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if not values:
        return "none", None
    if len(values) > 1:
        # Which one counts differs between proxies and frameworks.
        return "repeated", ""
    scheme, _, token = values[0].partition(b" ")
    if scheme.lower() != b"bearer":
        return "malformed", ""
    # Bytes that are not ASCII become U+FFFD, which the PDP refuses like any other stray character.
    return "bearer", token.lstrip(b" ").decode("ascii", errors="replace")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, unverified, and how it came.

    Attributes:
        bearer: as `extract` reads it; None without one, and where nothing says whose it would be.
        transport: `http`, `stdio`, another of the SDK's words, or nothing in memory.
    """

    bearer: str | None = field(repr=False)
    transport: str


def caller(context: Context, stdio: StdioBearer | None) -> Caller:
    """The caller of a request to a FastMCP server.

    Args:
        context: of the request.
        stdio: whose bearer counts where the request came over stdio.
    """
    return caller_of(
        context.request_context.request if context.request_context else None,
        transport=context.transport or "",
        stdio=stdio,
    )


def caller_of(request: Any, *, transport: str, stdio: StdioBearer | None) -> Caller:
    """The caller of the HTTP request that carries a message, or of a message without one.

    It must be the request of this very message: FastMCP's `get_http_request` falls back on one that
    it inherited, which behind an in-memory client may be another caller's.

    Args:
        request: Starlette's; None where the message came another way.
        transport: the way, where there is no request.
        stdio: whose bearer counts over stdio.
    """
    if request is None:
        return Caller(stdio.read() if stdio and transport == "stdio" else None, transport)
    headers = request.scope["headers"]
    outcome, found = extract(headers, request.scope["query_string"])
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug(
            "mcp_auth.extract outcome=%s len=%d path=%s header_names=%s",
            outcome,
            len(found or ""),
            quote(request.url.path),
            sorted({name.decode("latin-1") for name, _ in headers}),
        )
    return Caller(found, "http")


def version(message: Any, context: Context, *, nested: bool) -> VersionSpec | None:
    """The version of the component that FastMCP will run, whatever middleware did to the message.

    Args:
        message: the request's parameters; FastMCP writes the version into `_meta`.
        context: of the same request.
        nested: whether server code makes the request, and not the client.
    """
    carried = context.request_context.meta if context.request_context else None
    asked = None if nested else extract_version_spec({**(carried or {})})
    if asked is not None:
        return VersionSpec(eq=asked)
    meta: dict[str, Any] = {**(getattr(message, "meta", None) or {})}
    written = (meta.get("fastmcp") or {}).get("version")
    if written is None:
        return None
    return VersionSpec(**written) if isinstance(written, dict) else VersionSpec(eq=written)


def _holds_bearer(query: bytes) -> bool:
    # Frameworks differ in what separates parameters, and a client that has the case wrong has
    # given its bearer away all the same.
    fields = parse_qsl(query.decode("latin-1").replace(";", "&"), keep_blank_values=True)
    return any(name.strip().lower() == "access_token" for name, _ in fields)
