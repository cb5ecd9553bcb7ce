"""Decisions as OpenTelemetry spans, in the caller's trace. Without an SDK, none are recorded.

FastMCP opens a span for each request, and reads its parent from `_meta`; these are its children. No
attribute holds a bearer, an argument, or a URI, which may contain arguments.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from mcp_plugin.http.asgi import Headers, header
from pdp_client import Action, Decision, Reason, ReasonClass, Visible
from pdp_client.reasons import quote

_CARRIED: Final = ("traceparent", "tracestate")
_NAMED: Final = {"tools/call": "gen_ai.tool.name", "prompts/get": "gen_ai.prompt.name"}

_WITHOUT_SDK: Final = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
"""The API's own providers, which drop all spans."""

_tracer = trace.get_tracer("lictor")

Attributes = Mapping[str, str | bool | int]


@contextmanager
def joined(headers: Headers) -> Iterator[None]:
    """Continue the trace that a request's headers name, unless it has already been continued.

    W3C Trace Context §3; baggage is unverified input of the caller, and is ignored.
    """
    if trace.get_current_span().get_span_context().is_valid:
        yield
        return
    carrier = {name: header(headers, name.encode()) or "" for name in _CARRIED}
    token = context.attach(propagate.extract(carrier, context=context.get_current()))
    try:
        yield
    finally:
        context.detach(token)


class Spans:
    """An observer that emits each decision as a span that has just ended; see `Observer`."""

    def decided(self, action: Action, decision: Decision, *, seconds: float) -> None:
        """As `Observer.decided`."""
        if not _are_collected():
            return
        with _span("lictor.decide", decision.reason, seconds) as span:
            # If the span is not recorded, do not compute its attributes.
            if not span.is_recording():
                return
            said: dict[str, str | bool | int] = {
                "mcp.method.name": action.method,
                "lictor.allow": decision.allow,
                "lictor.cached": decision.cached,
                "lictor.decision_id": decision.decision_id,
                "lictor.library_count": len(decision.libraries),
            }
            if decision.shadowed:
                said["lictor.shadowed"] = True
            if action.method in _NAMED:
                said[_NAMED[action.method]] = quote(action.name)[1:-1]
            if decision.principal is not None:
                said["enduser.id"] = quote(str(decision.principal))[1:-1]
            if decision.data_age_ms is not None:
                said["lictor.data_age_ms"] = decision.data_age_ms
            span.set_attributes({**said, **_version_attributes(decision)})

    def listed(self, actions: Sequence[Action], visible: Visible, *, seconds: float) -> None:
        """As `Observer.listed`."""
        if not _are_collected():
            return
        with _span("lictor.list", visible.reason, seconds) as span:
            said = {
                "lictor.cached": visible.cached,
                "lictor.list.asked": len(actions),
                "lictor.list.shown": len(visible.indices),
            }
            span.set_attributes({**said, **_version_attributes(visible)})

    def authenticated(self, reason: Reason, *, seconds: float) -> None:
        """As `Observer.authenticated`."""
        if _are_collected():
            with _span("lictor.authenticate", reason, seconds):
                pass


SPANS: Final = Spans()


def _are_collected() -> bool:
    """Return whether there is an SDK that spans could reach."""
    return not isinstance(trace.get_tracer_provider(), _WITHOUT_SDK)


@contextmanager
def _span(name: str, reason: Reason, seconds: float) -> Iterator[Span]:
    ended = time.time_ns()
    span = _tracer.start_span(
        name,
        kind=SpanKind.INTERNAL,
        attributes={"lictor.reason": reason.value},
        start_time=ended - round(seconds * 1e9),
    )
    if reason.reason_class is ReasonClass.OUTAGE:
        # A denial is a decision, not an error.
        span.set_status(Status(StatusCode.ERROR, reason.value))
    try:
        yield span
    finally:
        span.end(ended)


def _version_attributes(answer: Decision | Visible) -> Attributes:
    if answer.epoch is None or answer.revision is None:
        return {}
    return {"lictor.epoch": answer.epoch, "lictor.revision": answer.revision}
