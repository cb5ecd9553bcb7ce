"""HTTP responses of one caller, cut off when the caller's access ends.

A standalone stream (GET) has no call whose cancellation would end it. In `strict`, no response may
carry a message of the server's after a revocation has returned, so each message waits for a check.
What follows is the refusal alone: clients that get no response wait for it until they time out.
"""

import json
from collections.abc import Mapping
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_plugin.denials import protocol_error, tool_result
from mcp_plugin.enforcer import Enforcer
from mcp_plugin.exceptions import CallDenied
from mcp_plugin.http import asgi
from mcp_plugin.http.request import Caller
from mcp_plugin.revocation import OpenWork
from pdp_client import Action, Decision, Reason
from pdp_client.reasons import message

_GUARDED = "lictor.guarded"


async def guard_response(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    enforcer: Enforcer,
    bearer: str | None,
    was_valid: bool = False,
) -> None:
    """Run an application, and end its response when the caller's access ends.

    Args:
        app: the application.
        scope: the request.
        receive: as in ASGI.
        send: as in ASGI.
        enforcer: knows when access ends, and which sessions listen.
        bearer: the caller's; None for an anonymous caller, whose access does not end.
        was_valid: whether the bearer was checked just now.
    """
    revocations, is_stream = enforcer.revocations, scope["method"] == "GET"
    if bearer is None or scope.get(_GUARDED) or not (is_stream or revocations.is_strict):
        await app(scope, receive, send)
        return
    scope[_GUARDED] = True
    body = asgi.RequestBody(receive)
    asked = None if is_stream else asgi.message_in(await body.read(asgi.MAX_BODY))
    response = _Response(send)
    caller = Caller(bearer, "http")
    # Where authentication is optional, a bearer that was never valid has no access that could end.
    was_valid = was_valid or (is_stream and await revocations.is_valid(caller))
    with anyio.CancelScope() as cancel:
        work = OpenWork("stream", Action(method=scope["method"], name=""), cancel.cancel)

        async def send_current(sent: Message) -> None:
            has_content = sent["type"] == "http.response.body" and sent.get("body")
            if revocations.is_strict and has_content and work.reason is None:
                refused = await revocations.is_refused(caller)
                if refused is not None:
                    revocations.end(work, refused, None)
            if work.reason is None:
                await response.send(sent)

        session_id = asgi.header(scope["headers"], asgi.SESSION) if is_stream else None
        with (
            revocations.opened(caller, work, was_valid=was_valid),
            enforcer.list_changes.streaming(session_id),
        ):
            await app(scope, body.receive, send_current)
    if work.reason is not None:
        await response.end(work.reason, asked)


class _Response:
    """A response under way."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._is_started = self._is_over = False

    async def send(self, sent: Message) -> None:
        """Send a message; the head waits for the first content, so that it may still be a 401."""
        if sent["type"] == "http.response.start":
            self._head = sent
            if _is_event_stream(sent):
                await self._start()
            return
        await self._start()
        self._is_over = sent["type"] == "http.response.body" and not sent.get("more_body")
        await self._send(sent)

    async def end(self, reason: Reason, asked: Mapping[str, Any] | None) -> None:
        """End the response with the refusal alone.

        Args:
            reason: why.
            asked: the message that it is the response to; None for a standalone stream.
        """
        if self._is_over:
            return
        try:
            if self._is_started:
                last = _event(asked, reason) if self._head and _is_event_stream(self._head) else b""
                await self._send({"type": "http.response.body", "body": last, "more_body": False})
            else:
                await asgi.respond(self._send, 401, {"message": message(reason) or reason.value})
        except OSError:  # the client is gone
            pass

    async def _start(self) -> None:
        if not self._is_started and self._head is not None:
            self._is_started = True
            await self._send(self._head)


def _is_event_stream(head: Message) -> bool:
    content = asgi.header(head.get("headers", ()), b"content-type") or ""
    return content.startswith("text/event-stream")


def _event(asked: Mapping[str, Any] | None, reason: Reason) -> bytes:
    """Return the event that refuses a request; empty if the message was none."""
    if asked is None or "id" not in asked or "method" not in asked:
        return b""
    denied = CallDenied(Decision.refused(reason))
    is_call = asked["method"] == "tools/call"
    content = tool_result(denied) if is_call else protocol_error(denied).error
    said = content.model_dump(mode="json", by_alias=True, exclude_none=True)
    member = "result" if is_call else "error"
    document = json.dumps({"jsonrpc": "2.0", "id": asked["id"], member: said})
    return f"event: message\r\ndata: {document}\r\n\r\n".encode()
