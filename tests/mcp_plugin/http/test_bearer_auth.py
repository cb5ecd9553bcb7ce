"""`FastMCP(auth=BearerAuth(…))`: what HTTP says to whom, and what is said in band."""

import asyncio
import json
import re

import httpx2
import pytest
from fastmcp import FastMCP
from mcp import MCPError
from mcp.server.auth.provider import principal_components
from mcp_types import HEADER_MISMATCH
from prometheus_client import CollectorRegistry

from mcp_plugin import AllowedLibraries, BearerAuth, PolicyMiddleware
from mcp_plugin.http.bearer_auth import access_token
from mcp_plugin.http.request import extract
from pdp_client import (
    PDP,
    BearerVerifier,
    ConfigurationError,
    Credential,
    FileRecord,
    Issuer,
    Keyring,
)
from tests.mcp_plugin.conftest import serving

BASE = "https://mcp.example.org"
METADATA = "/.well-known/oauth-protected-resource/mcp"
CHALLENGE = f'Bearer resource_metadata="{BASE}{METADATA}"'

pytestmark = pytest.mark.anyio


def server(policy, **auth):
    auth.setdefault("base_url", BASE)
    mcp = FastMCP("demo", auth=BearerAuth(policy, **auth), cache_ttl=60, cache_scope="public")
    mcp.add_middleware(policy)

    @mcp.tool
    def get_health() -> str:
        return "ok"

    @mcp.tool
    def search(libraries: list[str] = AllowedLibraries()) -> list[str]:
        return libraries

    @mcp.tool
    def delete() -> str:
        return "deleted"

    return mcp


class RawHTTP:
    """Requests as they are on the wire, to a server behind `BearerAuth`."""

    def __init__(self, http, url, metrics, served):
        self._http = http
        self.url = url
        self.metrics = metrics
        self.served = served

    def post(self, method, params=None, *, bearer=None, headers=(), query="", version="2025-06-18"):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        sent = [
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", version),
            *([("Authorization", f"Bearer {bearer}")] if bearer is not None else []),
            *headers,
        ]
        return self._http.post(self.url + query, json=body, headers=sent)

    def call(self, tool, **kwargs):
        return self.post("tools/call", {"name": tool, "arguments": {}}, **kwargs)

    def request(self, method, path="", **kwargs):
        return self._http.request(
            method, self.url.removesuffix("/mcp") + (path or "/mcp"), **kwargs
        )


@pytest.fixture
async def start(grants, plain_pdp):
    """Serve a server behind `BearerAuth` over a plain OPA."""
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as exit_:

        async def start(*, pdp=None, auth=None, http=None, **settings):
            metrics = CollectorRegistry()
            settings.setdefault("public_tools", {"get_health"})
            policy = PolicyMiddleware(pdp or plain_pdp, registry=metrics, **settings)
            options = {"json_response": True, "stateless_http": True, **(http or {})}
            served = await exit_.enter_async_context(
                serving(server(policy, **(auth or {})), metrics, **options)
            )
            client = await exit_.enter_async_context(httpx2.AsyncClient(timeout=30))
            return RawHTTP(client, served.url, metrics, served)

        yield start


@pytest.fixture
def ada(grants):
    bearer = grants.token("search", libraries=["poe"])
    grants.lay()
    return bearer


async def test_no_bearer_is_answered_with_where_to_find_out_more(start):
    wire = await start()
    answer = await wire.call("search")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == CHALLENGE
    assert wire.served.failures() == {"missing_token": 1}
    # Another scheme is as good as none: the client may not have known.
    basic = await wire.call("search", headers=[("Authorization", "Basic YTpi")])
    assert (basic.status_code, basic.headers["www-authenticate"]) == (401, CHALLENGE)


async def test_metadata_is_where_the_challenge_says_and_allows_cors(start):
    servers = ["https://login.example.org/"]
    wire = await start(auth={"authorization_servers": servers, "name": "Shelf"})
    found = await wire.request("GET", METADATA, headers={"Origin": "https://elsewhere.example"})

    assert found.json() == {
        "resource": f"{BASE}/mcp",
        "bearer_methods_supported": ["header"],
        "resource_name": "Shelf",
        "authorization_servers": servers,
    }
    assert found.headers["access-control-allow-origin"] == "*"
    alone = await start()
    assert "authorization_servers" not in (await alone.request("GET", METADATA)).json()


async def test_bad_bearer_gets_401_whatever_the_request(start, grants, ada):
    wire = await start()
    for bearer in ("unknown" * 6, "not a token"):
        for method in ("initialize", "ping", "tools/list", "resources/read", "no/such"):
            answer = await wire.post(method, bearer=bearer)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith(
                'Bearer error="invalid_token", error_description="invalid_token", resource_metad'
            )
            assert bearer not in str(answer.headers) + answer.text
    assert (await wire.call("get_health", bearer="unknown" * 6)).status_code == 401

    assert (await wire.call("search", bearer=ada)).json()["result"]["structuredContent"] == {
        "result": ["poe"]
    }
    grants.revoke(ada)
    assert (await wire.call("search", bearer=ada)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "query"),
    [(["good", "good"], ""), (["good"], "?access_token=good"), ([], "?access_token=good")],
)
async def test_bearer_in_two_places_or_in_the_url_is_a_bad_request(start, ada, headers, query):
    wire = await start()
    lines = [("Authorization", f"Bearer {ada}") for _ in headers]
    answer = await wire.call("search", headers=lines, query=query.replace("good", ada))

    assert answer.status_code == 400
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]
    assert ada not in str(answer.headers) + answer.text


MISTAKES = {
    "Bearer {}": 'the word "Bearer" twice',
    "bearer  {}": 'the word "Bearer" twice',
    "${{TOKEN}}": "a variable that was not replaced",
    "$TOKEN": "a variable that was not replaced",
    "{{{{ token }}}}": "a variable that was not replaced",
    "%TOKEN%": "a variable that was not replaced",
    "<your-token>": "a variable that was not replaced",
    '"{}"': "quotes around the bearer",
    "'{}'": "quotes around the bearer",
    "{} {}": "blanks within the bearer",
    "undefined": "a word for nothing",
}


@pytest.mark.parametrize("form", MISTAKES)
async def test_misconfigured_bearer_is_named_for_what_it_is(start, ada, form, caplog):
    caplog.set_level("INFO", "mcp_plugin")
    wire = await start()
    sent = form.format(ada, ada)
    answer = await wire.call("search", bearer=sent)
    assert answer.status_code == 401
    assert f"The header holds {MISTAKES[form]}." in answer.json()["message"]
    assert f"mcp_auth.rejected reason=invalid_token bearer={MISTAKES[form]!r}" in caplog.text
    assert ada not in caplog.text + answer.text + str(answer.headers)


async def test_401_says_what_to_do(start):
    wire = await start(auth={"documentation": "https://docs.example.org/tokens"})
    for bearer in (None, "unknown" * 6):
        text = (await wire.call("search", bearer=bearer)).json()["message"]
        assert "Send the header: Authorization: Bearer <token>." in text
        assert text.endswith("See https://docs.example.org/tokens.")


async def raw_status(url, authorization):
    """The status of a call whose header is exactly these bytes, which no client would send."""
    port = int(url.split(":")[2].partition("/")[0])
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search"}}'
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /mcp HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Accept: application/json, text/event-stream\r\nAuthorization: " + authorization
        + f"\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )  # fmt: skip
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


@pytest.mark.parametrize("blanks", [b" ", b"\t", b"  \t "])
async def test_blanks_around_a_bearer_are_not_part_of_it(start, ada, blanks):
    wire = await start()
    bearer = ada.encode()
    for value in (b"Bearer " + bearer + blanks, blanks + b"Bearer   " + bearer):
        assert extract([(b"authorization", value)]) == ("bearer", ada)
        assert await raw_status(wire.url, value) == 200
    assert await raw_status(wire.url, b"Bearer" + blanks) == 401


async def test_several_protocol_versions_in_one_request_are_refused(start, ada):
    wire = await start()
    for first, second in (
        ("2025-06-18", "2026-07-28"),
        ("2026-07-28", "2025-06-18"),
        ("2025-06-18",) * 2,
    ):
        answer = await wire.call(
            "get_health", bearer=ada, version=first,
            headers=[("MCP-Protocol-Version", second), ("Mcp-Method", "tools/list"), ("Mcp-Name", "x")],
        )  # fmt: skip
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == HEADER_MISMATCH


async def test_header_mismatch_is_a_json_rpc_error_that_pages_can_read(start, ada):
    wire = await start()
    method = ("Mcp-Method", "tools/list")
    for lines in ([method], [method, ("MCP-Protocol-Version", "2025-06-18")]):
        answer = await wire.call("search", bearer=ada, headers=[("Origin", BASE), *lines])
        assert (answer.status_code, answer.json()) == (400, {
            "jsonrpc": "2.0", "id": None,
            "error": {"code": HEADER_MISMATCH, "message": "Headers do not match the body"},
        })  # fmt: skip
        assert answer.headers["access-control-allow-origin"] == BASE


async def test_resource_at_a_root_has_no_slash(start):
    wire = await start(http={"path": "/"})
    found = await wire.request("GET", "/.well-known/oauth-protected-resource")
    assert found.json()["resource"] == BASE
    answer = await wire.request("POST", "/", content="{}")
    assert (
        f'resource_metadata="{BASE}/.well-known/oauth-protected-resource"'
        in (answer.headers["www-authenticate"])
    )


async def test_permission_denial_is_in_band_without_a_scope_challenge(start, ada):
    wire = await start()
    answer = await wire.call("delete", bearer=ada)

    assert answer.status_code == 200
    assert "www-authenticate" not in answer.headers
    assert answer.json()["result"]["isError"] is True
    assert "permission" in answer.json()["result"]["content"][0]["text"]


async def test_outage_or_lockdown_gives_no_401(start, grants, ada, short_path):
    wire = await start()
    grants.lay(lockdown=True)
    locked = await wire.call("search", bearer=ada)
    assert (locked.status_code, locked.json()["result"]["isError"]) == (200, True)

    verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
    async with PDP(opa_url=f"unix://{short_path}/none.sock", verifier=verifier) as cut_off:
        wire = await start(pdp=cut_off)
        answer = await wire.call("search", bearer=ada)
        assert answer.status_code == 200
        assert answer.json()["result"]["content"][0]["text"] == (
            "The policy decision point is unavailable."
        )
        # What Python can tell by itself it still tells.
        assert (await wire.call("search", bearer="a b")).status_code == 401
        assert (await wire.call("get_health")).json()["result"]["isError"] is False


async def test_lists_and_public_tools_alone_need_no_bearer(start):
    wire = await start()
    listed = await wire.post("tools/list")
    names = {tool["name"] for tool in listed.json()["result"]["tools"]}
    assert names == {"get_health", "search", "delete"}
    for method in ("initialize", "ping", "resources/list", "prompts/list"):
        assert (await wire.post(method)).status_code == 200, method
    level = await wire.post("logging/setLevel", {"level": "debug"})
    assert (level.status_code, "result" in level.json()) == (200, True)
    assert (await wire.call("get_health")).json()["result"]["isError"] is False

    for method in ("tools/call", "resources/read", "prompts/get", "no/such"):
        assert (await wire.post(method, {"name": "x", "uri": "get_health"})).status_code == 401


async def test_bearer_auth_without_a_policy_refuses_everything(grants, plain_pdp, ada, caplog):
    policy = PolicyMiddleware(plain_pdp, registry=CollectorRegistry())
    mcp = server(policy)
    mcp.middleware.remove(policy)
    async with serving(mcp) as served, httpx2.AsyncClient() as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "delete"}}
        sent = {"Authorization": f"Bearer {ada}", "Accept": "application/json, text/event-stream"}
        answer = await http.post(served.url, json=body, headers=sent)

    assert (answer.status_code, answer.json()) == (500, {"error": "This server has no policy."})
    assert any("mcp_auth.unguarded" in one for one in caplog.messages)


async def test_batch_or_too_long_message_needs_a_bearer(start):
    wire = await start()
    for content in (
        json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]),
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "x": "' + "x" * 4_200_000 + '"}',
        "[" * 100_000,
        "{",
        "",
        '{"method": 1}',
        '{"method": {}, "params": []}',
    ):
        assert (await wire.request("POST", content=content)).status_code == 401, content[:60]


async def test_listing_without_a_bearer_can_be_switched_off(start):
    wire = await start(list_without_token=False)
    seen = (await wire.post("tools/list")).json()["result"]["tools"]
    assert [tool["name"] for tool in seen] == ["get_health"]
    assert (await wire.post("prompts/list")).status_code == 401

    wire = await start(list_without_token=False, public_tools=frozenset())
    for method in ("initialize", "tools/list", "ping"):
        assert (await wire.post(method)).status_code == 401


async def test_auth_not_required_leaves_the_decision_to_the_policy(start, ada):
    wire = await start(require_auth=False)
    for bearer in (None, "unknown" * 6):
        assert (await wire.call("delete", bearer=bearer)).json()["result"]["isError"] is False
        assert (await wire.call("search", bearer=bearer)).json()["result"]["isError"] is True
    # A good token's own patterns still hold.
    assert (await wire.call("delete", bearer=ada)).json()["result"]["isError"] is True


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_both_protocols_call_with_a_bearer_and_list_without(start, ada, mode):
    wire = await start(http={"json_response": False, "stateless_http": False})

    assert await wire.served.call("search", bearer=ada, mode=mode) == ["poe"]
    assert await wire.served.tools(mode=mode) == {"get_health", "search", "delete"}
    assert await wire.served.call("get_health", mode=mode) == "ok"
    with pytest.raises(MCPError, match="error response"):
        await wire.served.call("search", mode=mode)


async def test_session_belongs_to_the_caller_that_opened_it(start, grants, ada):
    bob = grants.token("*")
    grants.lay()
    wire = await start(http={"stateless_http": False})
    opening = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    opened = await wire.post("initialize", opening, bearer=ada)
    session = [("Mcp-Session-Id", opened.headers["mcp-session-id"])]

    assert (await wire.post("ping", bearer=ada, headers=session)).status_code == 200
    for bearer in (bob, None):
        assert (await wire.post("ping", bearer=bearer, headers=session)).status_code == 404


async def test_tokens_with_equal_labels_are_different_callers():
    """A label has 8 digits of a digest; sessions must not go by it alone."""
    one, other = (Credential(kind="token", digest="0" * 8 + end * 56) for end in "ab")
    assert one.label == other.label
    assert principal_components(access_token(one)) != principal_components(access_token(other))


async def test_streams_and_ends_of_sessions_need_a_bearer_or_a_session(start):
    wire = await start(http={"stateless_http": False})
    for method in ("GET", "DELETE"):
        assert (await wire.request(method)).status_code == 401
        named = {"Mcp-Session-Id": "0" * 32, "Accept": "text/event-stream"}
        assert (await wire.request(method, headers=named)).status_code == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (BASE, 200),
        ("https://app.example.org:8443", 200),
        ("https://evil.example", 403),
        ("http://mcp.example.org", 403),
        ("null", 403),
        ("", 403),
        (f"{BASE}.evil.example", 403),
    ],
)
async def test_page_elsewhere_may_not_call_even_with_a_good_bearer(start, ada, origin, status):
    wire = await start(auth={"allowed_origins": ["https://APP.example.org:8443/page"]})

    answer = await wire.call("search", bearer=ada, headers=[("Origin", origin)])
    assert answer.status_code == status
    assert "poe" in answer.text or status == 403


@pytest.mark.parametrize(
    "origin",
    [
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "moz-extension://6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "vscode-webview://panel",
        "tauri://localhost",
        "capacitor://localhost",
        "http://localhost:6274",
    ],
)
async def test_extensions_and_webviews_may_be_allowed(start, ada, origin):
    wire = await start(auth={"allowed_origins": [origin]})
    assert (await wire.call("search", bearer=ada, headers=[("Origin", origin)])).status_code == 200
    for other in (origin + "x", "null", "chrome-extension://other"):
        answer = await wire.call("search", bearer=ada, headers=[("Origin", other)])
        assert answer.status_code == 403


async def test_page_of_an_allowed_origin_can_read_why_it_was_refused(start, ada):
    wire = await start()
    for bearer, status in ((None, 401), ("unknown" * 6, 401)):
        answer = await wire.call("search", bearer=bearer, headers=[("Origin", BASE)])
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == BASE
        assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
    foreign = await wire.call("search", headers=[("Origin", "https://evil.example")])
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize("url", ["ftp://x", "x", "https://", "https://x:y", "file:///x", "null"])
async def test_invalid_base_url_is_refused_at_once(plain_pdp, url):
    policy = PolicyMiddleware(plain_pdp, registry=CollectorRegistry())
    with pytest.raises(ConfigurationError, match=re.escape(url)):
        BearerAuth(policy, base_url=BASE, allowed_origins=[url])


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([("Mcp-Method", "tools/call"), ("Mcp-Name", "search")], 200),
        ([("Mcp-Method", "tools/call"), ("Mcp-Name", "=?base64?c2VhcmNo?=")], 200),
        ([("Mcp-Method", "tools/list"), ("Mcp-Name", "search")], 400),
        ([("Mcp-Method", "tools/call"), ("Mcp-Name", "get_health")], 400),
        ([("Mcp-Method", "tools/call"), ("Mcp-Name", "search"), ("Mcp-Name", "search")], 400),
    ],
)
async def test_routing_headers_must_match_the_body(start, ada, version, lines, status):
    wire = await start()
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    answer = await wire.post(
        "tools/call",
        {"name": "search", "arguments": {}, **({"_meta": meta} if version > "2026" else {})},
        bearer=ada,
        headers=lines,
        version=version,
    )
    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["error"]["code"] == HEADER_MISMATCH
    else:
        assert answer.json()["result"]["structuredContent"] == {"result": ["poe"]}


@pytest.mark.parametrize("json_response", [True, False])
async def test_no_answer_may_be_kept_or_shared(start, ada, json_response):
    wire = await start(http={"json_response": json_response})
    for answer in (
        await wire.call("search", bearer=ada),
        await wire.post("tools/list"),
        await wire.call("search"),
        await wire.call("search", headers=[("Origin", "https://evil.example")]),
    ):
        assert answer.headers["cache-control"] == "no-store, no-transform"


async def test_list_of_one_caller_is_never_cacheable_for_others(start, ada):
    """`FastMCP(cache_scope="public")`, as `server` does."""
    wire = await start()
    for bearer in (None, ada):
        async with wire.served.client(bearer) as client:
            listed = await client.list_tools_mcp()
        assert (listed.ttl_ms, listed.cache_scope) == (60_000, "private")


async def test_tool_gets_no_bearer_and_spans_get_its_label(start, ada):
    from fastmcp.server.dependencies import get_access_token

    wire = await start()
    held = []

    @wire.served.mcp.tool(name="search")
    def hold() -> str:
        held.append(get_access_token())
        return "held"

    await wire.call("search", bearer=ada)
    (token,) = held
    assert token.client_id == token.token
    assert token.client_id.startswith("lct_…")
    assert ada[:12] not in repr(token)


async def test_access_token_of_a_jwt_has_its_claims_and_its_end():
    claims = {"iss": "mnemosyne", "typ": "team", "sub": "team:docs", "exp": 4_102_444_800}
    token = access_token(Credential(kind="jwt", kid="k", claims=claims))
    assert (token.client_id, token.subject) == ("team:docs", "team:docs")
    assert (token.expires_at, token.scopes, token.claims) == (4_102_444_800, [], claims)


async def test_rejected_request_is_recorded_without_its_bearer(start, plain_opa, ada, tmp_path):
    verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
    record = tmp_path / "decisions.jsonl"
    async with PDP(
        opa_url=plain_opa.unix_url, verifier=verifier, record=FileRecord(record), deadline=10
    ) as pdp:
        wire = await start(pdp=pdp)
        await wire.post("ping", bearer=ada)
        assert record.read_text() == ""
        await wire.post("ping", bearer="unknown" * 6)

    (entry,) = map(json.loads, record.read_text().splitlines())
    assert entry["action"] == {"method": "authenticate", "name": "", "tags": []}
    assert (entry["allow"], entry["reason"]) == (False, "invalid_token")
    assert entry["credential"]["kind"] == "token"
    assert "unknown" not in record.read_text()
