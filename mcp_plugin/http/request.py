"""The request that carries a message, as FastMCP knows it: bearer, transport, version."""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from fastmcp import Context
from fastmcp.server.dependencies import extract_version_spec
from fastmcp.utilities.versions import VersionSpec

from mcp_plugin.http.passthrough import headers_of
from mcp_plugin.http.stdio import StdioBearer
from pdp_client.reasons import quote

Outcome = Literal["bearer", "none", "query", "repeated", "malformed"]

_log = logging.getLogger(__name__)


def extract(
    headers: Iterable[tuple[bytes, bytes]], query: bytes = b""
) -> tuple[Outcome, str | None]:
    """Read the bearer from ASGI's raw headers; only they show a repeated header.

    A bearer in the URL is refused, with or without one in a header: URLs are logged, stored and
    forwarded. RFC 6750 §2.1, §2.3 and §5.3, RFC 9110 §11.4.

    Args:
        headers: Names and values.
        query: The URL's, without `?`.

    Returns:
        The outcome, and what stood after `Bearer `, unverified; None without a bearer. A malformed
        one is returned as empty, which is never a token: the PDP refuses it as `invalid_token`.
    """
    if _holds_bearer(query):
        return "query", ""
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if not values:
        return "none", None
    if len(values) > 1:
        # Proxies and frameworks differ in which one they use.
        return "repeated", ""
    # Some HTTP parsers leave the blanks around a value (RFC 9110 §5.5).
    scheme, _, token = values[0].strip(b" \t").partition(b" ")
    if scheme.lower() != b"bearer":
        return "malformed", ""
    # Bytes that are not ASCII become U+FFFD, which the PDP refuses like any other stray character.
    return "bearer", token.lstrip(b" ").decode("ascii", errors="replace")


def bearer_of(scope: Mapping[str, Any]) -> str | None:
    """Return the bearer of an HTTP request as its client sent it; see `extract`."""
    return extract(headers_of(scope), scope.get("query_string", b""))[1]


@dataclass(frozen=True, slots=True)
class Caller:
    """The unverified caller of a request, and its transport.

    Attributes:
        bearer: as `extract` reads it; None without one, and where it cannot be attributed.
        transport: `http`, `stdio`, another of the SDK's words, or empty in memory.
    """

    bearer: str | None = field(repr=False)
    transport: str


def caller(context: Context, stdio: StdioBearer | None) -> Caller:
    """Return the caller of a request to a FastMCP server.

    Args:
        context: FastMCP's context of the request.
        stdio: the bearer to use if the request came over stdio.
    """
    return caller_of(
        context.request_context.request if context.request_context else None,
        transport=context.transport or "",
        stdio=stdio,
    )


def caller_of(request: Any, *, transport: str, stdio: StdioBearer | None) -> Caller:
    """Return the caller of the HTTP request that carries a message, or of a message without one.

    The request must be that of this message: FastMCP's `get_http_request` falls back on an
    inherited one, which behind an in-memory client may be another caller's.

    Args:
        request: Starlette's; None if the message came over another transport.
        transport: the transport, if there is no request.
        stdio: the bearer to use over stdio.
    """
    if request is None:
        return Caller(stdio.read() if stdio and transport == "stdio" else None, transport)
    headers = headers_of(request.scope)
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
    """Return the version of the component that FastMCP will run, as it stands after middleware.

    Args:
        message: the request's parameters; FastMCP writes the version into `_meta`.
        context: FastMCP's context of the same request.
        nested: whether server code makes the request instead of the client.
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


_MISTAKES: Final = (
    (re.compile(r"\s*"), "no bearer after the scheme"),
    (re.compile(r"bearer\s.*", re.IGNORECASE | re.DOTALL), 'the word "Bearer" twice'),
    (re.compile(r"\$\{?\w+\}?|\{\{.*\}\}|%\w+%|<.*>"), "a variable that was not replaced"),
    (re.compile(r"""["'`\u201c\u2018].*""", re.DOTALL), "quotes around the bearer"),
    (re.compile(r"null|undefined|none|nil", re.IGNORECASE), "a word for nothing"),
    (re.compile(r".*\s.*", re.DOTALL), "blanks within the bearer"),
)


def mistake_in(bearer: str | None) -> str:
    """Return what is wrong with a bearer that a client was configured with; empty if unknown.

    The text never holds a part of the bearer.
    """
    if bearer is None:
        return ""
    return next((name for pattern, name in _MISTAKES if pattern.fullmatch(bearer)), "")


def _holds_bearer(query: bytes) -> bool:
    if not query:
        return False
    # Frameworks differ in what separates parameters, and a client that gets the case wrong has
    # still exposed its bearer.
    fields = parse_qsl(query.decode("latin-1").replace(";", "&"), keep_blank_values=True)
    return any(name.strip().lower() == "access_token" for name, _ in fields)
