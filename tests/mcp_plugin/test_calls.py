"""Tool calls over HTTP: which are allowed, which are denied, and with which message."""

import asyncio
import json
import signal
import time

import pytest
from support.waiting import until

from pdp_client import FileRecord

pytestmark = pytest.mark.anyio

MISSING = "Authentication required. Provide a Bearer token."
INVALID = "Invalid MCP token."
UNAVAILABLE = "The policy decision point is unavailable."


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_allowed_call_receives_its_libraries(serve, ada, mode):
    served = await serve()

    assert await served.call("search", bearer=ada, mode=mode) == ["lib-a", "lib-b"]
    assert served.failures() == {}


async def test_team_jwt_receives_the_libraries_of_its_workspaces(serve, deployment, ada):
    served = await serve()
    team, bearer = await deployment.create_team("Docs", owner="ada", workspaces=["w"])
    _, poor = await deployment.create_team("Poor", owner="ada")
    await deployment.settle()

    assert await served.call("search", bearer=bearer) == ["lib-a", "lib-b"]
    assert await served.call("search", bearer=poor) == []
    state = await served.call("state", bearer=bearer)
    assert state["mcp_user"] == "ada"
    assert state["mcp_token"] is None
    assert f"'team_id': UUID('{team.id}')" in state["mcp_claims"]
    assert "'kid': 'mnemosyne-" in state["mcp_claims"]
    assert state["mcp_resolved_libraries"] == ["lib-a", "lib-b"]


async def test_token_state_holds_user_token_label_and_libraries(serve, ada):
    served = await serve()

    state = await served.call("state", bearer=ada)

    assert state.pop("mcp_token").startswith("lct_…")
    assert state == {
        "mcp_user": "ada",
        "mcp_claims": "None",
        "mcp_resolved_libraries": ["lib-a", "lib-b"],
    }


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_each_refusal_reaches_the_client_as_an_error_result(serve, deployment, ada, mode):
    served = await serve()
    narrow = await deployment.create_token("ada", tools=["state"])
    old = await deployment.create_token("ada", expires_at=time.time() - 60)
    team, jwt = await deployment.create_team("Docs", owner="ada")
    await deployment.operator.rotate_team(team.id)
    ended, of_ended = await deployment.create_team("Ended", owner="ada")
    await deployment.operator.deactivate_team(ended.id)
    await deployment.settle()

    async def refusal(bearer):
        return await served.refusal("search", bearer=bearer, mode=mode)

    assert await refusal(None) == MISSING
    assert await refusal("garbage") == INVALID
    assert await refusal("eyJhbGciOiJub25lIn0.e30.") == "JWT header missing kid."
    assert await refusal(jwt) == INVALID
    assert await refusal(of_ended) == "Team JWT references an inactive team."
    assert await refusal(old) == "Token has expired."
    assert await refusal(narrow) == "Token does not have permission to call 'search'."
    assert served.failures() == {
        "missing_token": 1,
        "invalid_token": 2,
        "key_missing": 1,
        "team_inactive": 1,
        "token_expired": 1,
        "tool_not_allowed": 1,
    }


async def test_revocation_holds_on_the_next_call_of_an_open_session(serve, deployment, ada):
    served = await serve()
    async with served.client(ada) as client:
        assert (await client.call_tool("search")).data == ["lib-a", "lib-b"]
        await deployment.operator.disable_user("ada")
        await deployment.settle()

        result = await client.call_tool("search", raise_on_error=False)

    assert result.content[0].text == "User account is disabled."


@pytest.mark.parametrize("bearer", [None, "garbage", "x" * 9000])
async def test_public_tool_runs_with_any_bearer_and_without_opa(
    serve, deployment, lock_down, bearer
):
    served = await serve()
    await lock_down()
    assert await served.call("get_health", bearer=bearer) == "ok True None"

    deployment.opa.kill()

    assert await served.call("get_health", bearer=bearer) == "ok True None"
    assert served.failures() == {}


async def test_public_tool_has_no_libraries_even_for_a_good_bearer(serve, ada):
    served = await serve(public_tools={"search", "state"})

    assert "needs the libraries" in await served.refusal("search", bearer=ada)
    assert set((await served.call("state", bearer=ada)).values()) == {None, "None"}


async def test_call_is_denied_without_opa_and_allowed_after_its_return(serve, deployment, ada):
    served = await serve()
    async with served.client(ada) as client:
        await client.call_tool("search")
        deployment.opa.kill()

        result = await client.call_tool("search", raise_on_error=False)

        assert result.content[0].text == UNAVAILABLE
        assert served.failures() == {"unavailable": 1}
        deployment.opa.start()

        async def allowed():
            return not (await client.call_tool("search", raise_on_error=False)).is_error

        await until(allowed, "the call is allowed again")


async def test_call_is_denied_when_opa_dies_during_the_query(serve, deployment, ada):
    pdp = deployment.pdp()
    asked = asyncio.Event()
    write = pdp._transport._exchange

    async def exchange(request):
        asked.set()
        return await write(request)

    served = await serve(pdp=pdp)
    async with served.client(ada) as client:
        pdp._transport._exchange = exchange
        deployment.opa.process.send_signal(signal.SIGSTOP)
        call = asyncio.create_task(client.call_tool("search", raise_on_error=False))
        await asked.wait()
        deployment.opa.kill()
        result = await call

    assert result.content[0].text == UNAVAILABLE
    assert served.failures() == {"unavailable": 1}


async def test_odd_tool_name_is_only_an_unknown_tool(serve, deployment, ada):
    served = await serve()
    narrow = await deployment.create_token("ada", tools=["search"])
    await deployment.settle()

    for name in ('x"] ; true #', "../../data", "..%2f..%2fdata", "x\nmcp_auth", ""):
        assert await served.refusal(name) == MISSING
        denial = await served.refusal(name, bearer=narrow)
        assert denial.startswith("Token does not have permission"), name
        assert await served.refusal(name, bearer=ada) == f"Unknown tool: {name!r}"


async def test_anonymous_caller_cannot_learn_which_tools_exist(serve):
    served = await serve()

    for bearer in (None, "garbage"):
        known = await served.refusal("delete", bearer=bearer)
        assert await served.refusal("no_such_tool", bearer=bearer) == known


async def test_tool_answers_only_to_its_listed_name(make_deployment, guard):
    from fastmcp.server.providers.addressing import hash_tool, hashed_backend_name

    rule = """package site

deny contains {"action": a.name, "code": "no", "message": "Not here."} if {
	some a in data.lictor.actions
	a.name == "wipe"
}
"""
    deployment = await make_deployment(site=rule)
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada")
    await deployment.settle()
    served = await guard(deployment)
    meta = {"fastmcp": {"tool_hash": hash_tool("app", "wipe")}, "ui": {"visibility": ["app"]}}

    @served.mcp.tool(meta=meta)
    def wipe() -> str:
        return "wiped"

    assert await served.refusal("wipe", bearer=bearer) == "Not here."
    alias = hashed_backend_name("app", "wipe")
    assert await served.refusal(alias, bearer=bearer) == f"Unknown tool: {alias!r}"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_client_cannot_supply_the_libraries(serve, ada, mode):
    served = await serve()
    async with served.client(ada, mode=mode) as client:
        search = next(tool for tool in await client.list_tools() if tool.name == "search")
        assert "libraries" not in search.input_schema["properties"]

        result = await client.call_tool("search", {"libraries": ["lib-z"]}, raise_on_error=False)

    assert result.is_error
    assert "lib-z" not in str(result.structured_content)


async def test_version_that_runs_is_the_version_decided(make_deployment, guard):
    site = """package site

deny contains {"action": a.name, "code": "writes", "message": "No writing."} if {
	some a in data.lictor.actions
	"write" in a.tags
}
"""
    deployment = await make_deployment(site=site)
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada")
    await deployment.settle()
    served = await guard(deployment)

    @served.mcp.tool(name="edit", version="1", tags={"write"})
    def edit_1() -> str:
        return "edited"

    @served.mcp.tool(name="edit", version="2")
    def edit_2() -> str:
        return "looked"

    async with served.client(bearer) as client:
        assert (await client.call_tool("edit")).data == "looked"
        result = await client.call_tool("edit", version="1", raise_on_error=False)

    assert result.content[0].text == "No writing."
    assert served.failures() == {"site_rule": 1}


async def test_call_without_http_has_no_bearer_and_is_refused(serve, ada):
    from fastmcp import Client

    served = await serve()
    async with Client(served.mcp) as client:
        result = await client.call_tool("search", raise_on_error=False)
        assert result.content[0].text == MISSING
        assert (await client.call_tool("get_health")).data == "ok True None"


async def test_tools_own_client_does_not_speak_for_the_caller(serve, ada):
    from fastmcp import Client

    served = await serve()
    inner = served.mcp

    @served.mcp.tool
    async def relay() -> str:
        async with Client(inner) as client:
            return (await client.call_tool("search", raise_on_error=False)).content[0].text

    assert await served.call("relay", bearer=ada) == MISSING


async def test_decision_that_cannot_be_recorded_is_a_denial(serve, deployment, ada):
    class Full:
        def write(self, entry):
            from pdp_client import RecordFailed

            raise RecordFailed("disk full")

        def close(self):
            pass

    served = await serve(pdp=deployment.pdp(record=Full()))

    assert await served.refusal("search", bearer=ada) == UNAVAILABLE
    assert await served.refusal("get_health") == UNAVAILABLE


async def test_call_takes_one_query_and_one_record_line(guard, deployment, ada, tmp_path):
    # The SDK lists tools before each call, to see which headers the tool wants.
    log = tmp_path / "decisions.jsonl"
    pdp = deployment.pdp(record=FileRecord(log))
    asked = counted(pdp)
    served = await guard(deployment, pdp=pdp)
    async with served.client(ada) as client:
        await client.list_tools()
        asked.clear()
        log.write_text("")

        await client.call_tool("search", {"query": "x"})

    assert asked == ["decision"]
    assert [json.loads(line)["reason"] for line in log.read_text().splitlines()] == ["ok"]


def counted(pdp):
    """The entrypoints that a PDP queries from now on."""
    asked, ask = [], pdp._transport.query

    async def counting(rule, sent):
        asked.append(rule)
        return await ask(rule, sent)

    pdp._transport.query = counting
    return asked
