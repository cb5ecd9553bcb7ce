"""Decisions in the caller's trace, as an OpenTelemetry SDK sees them."""

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from mcp_plugin import BearerAuth, PolicyMiddleware
from mcp_plugin.spans import SPANS
from pdp_client import (
    PDP,
    Action,
    BearerVerifier,
    Decision,
    Issuer,
    Keyring,
    Reason,
    Visible,
)

from .conftest import demo_server, serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CARRIED = f"00-{TRACE}-{PARENT}-01"

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def exporter():
    """What the one SDK that a process may have exports."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
        assert trace.get_tracer_provider() is provider
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def spans(exporter):
    """Ours of the test, by name."""
    exporter.clear()

    def spans():
        found = {}
        for span in exporter.get_finished_spans():
            if span.name.startswith("lictor."):
                found.setdefault(span.name, []).append(span)
        return found

    return spans


@pytest.fixture
def ada(grants):
    bearer = grants.token("search", libraries=["poe"])
    grants.lay()
    return bearer


def identified(span):
    return f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else None


async def test_span_describes_the_decision_without_bearer_or_arguments(
    serve_plain, spans, exporter, ada
):
    served = await serve_plain()
    await served.call("search", {"query": "xyzzy"}, bearer=ada, mode="legacy")
    await served.refusal("delete", bearer=ada, mode="legacy")

    allowed, refused = spans()["lictor.decide"]
    said = dict(allowed.attributes)
    assert said.pop("lictor.decision_id")
    assert said.pop("lictor.data_age_ms") >= 0
    assert said.pop("enduser.id").startswith("mcptoken:lct_…")
    assert said == {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "search",
        "lictor.reason": "ok",
        "lictor.allow": True,
        "lictor.cached": False,
        "lictor.library_count": 1,
        "lictor.epoch": 1,
        "lictor.revision": 42,
    }
    assert 0 < allowed.end_time - allowed.start_time < 60e9
    assert (refused.attributes["lictor.reason"], refused.status.is_ok) == ("tool_not_allowed", True)
    reported = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert ada not in reported
    assert "xyzzy" not in reported


async def test_span_omits_a_uri_that_may_hold_arguments(serve_plain, spans, ada):
    served = await serve_plain()
    with pytest.raises(Exception, match="permission"):
        async with served.client(ada) as client:
            await client.read_resource("data://xyzzy")

    ours = "".join(span.to_json() for of_a_name in spans().values() for span in of_a_name)
    assert "resources/read" in ours
    assert "xyzzy" not in ours


async def test_spans_say_what_a_list_held_and_what_only_shadow_mode_let_run(
    plain_pdp, grants, spans
):
    PolicyMiddleware(plain_pdp, registry=CollectorRegistry())
    bearer = grants.token("search")
    grants.lay()
    actions = [Action(name="search"), Action(name="delete"), Action(name="drop")]
    await plain_pdp.visible(bearer, actions=actions)
    await plain_pdp.decide(bearer, Action(name="search"))
    await plain_pdp.decide(bearer, Action(name="delete"), shadow=True)

    (listed,) = spans()["lictor.list"]
    shown = (listed.attributes["lictor.list.asked"], listed.attributes["lictor.list.shown"])
    assert shown == (3, 1)
    allowed, shadowed = spans()["lictor.decide"]
    assert "lictor.shadowed" not in allowed.attributes
    said = (shadowed.attributes["lictor.shadowed"], shadowed.attributes["lictor.allow"])
    assert said == (True, False)


async def test_outage_is_an_error_and_a_refusal_is_not(short_path, spans):
    verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
    async with PDP(opa_url=f"unix://{short_path}/none.sock", verifier=verifier) as pdp:
        PolicyMiddleware(pdp, registry=CollectorRegistry())
        await pdp.authorize("opaque", tool="x")
        await pdp.visible("opaque", actions=[Action(name="x")])
        await pdp.authorize("not a token", tool="x")

    outage, refusal = spans()["lictor.decide"]
    assert (outage.status.is_ok, outage.status.description) == (False, "unavailable")
    assert refusal.status.is_ok
    assert not spans()["lictor.list"][0].status.is_ok


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_span_joins_the_trace_named_in_meta(serve_plain, spans, exporter, ada, mode):
    served = await serve_plain()
    with trace.get_tracer("client").start_as_current_span("client") as client:
        await served.call("search", bearer=ada, mode=mode)

    (decided,) = spans()["lictor.decide"]
    assert decided.context.trace_id == client.get_span_context().trace_id
    # Below the request's own span, which FastMCP makes.
    parents = {span.context.span_id: span for span in exporter.get_finished_spans()}
    assert parents[decided.parent.span_id].name == "tools/call search"


@pytest.mark.parametrize("stateless", [True, False])
@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
async def test_decision_is_part_of_the_trace_that_the_headers_name(
    plain_pdp, spans, ada, stateless, version
):
    mcp, registry = demo_server(), CollectorRegistry()
    policy = PolicyMiddleware(plain_pdp, registry=registry)
    mcp.auth = BearerAuth(policy, base_url="https://mcp.example.org")
    mcp.add_middleware(policy)
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    opening = {
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    sent = {
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {ada}",
        "MCP-Protocol-Version": version,
        "traceparent": CARRIED,
        "baggage": "user=xyzzy",
    }

    async with (
        serving(mcp, registry, stateless_http=stateless) as served,
        httpx2.AsyncClient(timeout=30, headers=sent) as http,
    ):

        async def send(method, params, **headers):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer = await http.post(served.url, json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            return answer

        routed, session = {"Mcp-Method": "tools/call", "Mcp-Name": "search"}, {}
        if not stateless and version < "2026":
            opened = await send("initialize", opening)
            session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        called = {"name": "search", "arguments": {}, "_meta": meta if version > "2026" else {}}
        await send("tools/call", called, **routed, **session)

    looked = spans()["lictor.authenticate"][-1]
    (decided,) = spans()["lictor.decide"]
    assert identified(looked) == (TRACE, PARENT)
    assert identified(decided)[0] == TRACE


def test_spans_without_an_sdk_are_not_begun(monkeypatch):
    def begin(*_, **__):
        raise AssertionError("begun")

    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    monkeypatch.setattr("mcp_plugin.spans._span", begin)
    SPANS.decided(Action(name="search"), Decision.refused(Reason.UNAVAILABLE), seconds=0.1)
    SPANS.listed([], Visible(indices=(), reason=Reason.OK), seconds=0.1)
    SPANS.authenticated(Reason.OK, seconds=0.1)
