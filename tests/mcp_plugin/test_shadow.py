"""Shadow mode: what would be denied runs, is reported, and gets only the caller's own libraries."""

import json

import pytest
from fastmcp import FastMCP

from mcp_plugin import AllowedLibraries, current_decision
from pdp_client import Action, FileRecord
from pdp_client.exceptions import ResponseUnusableError
from pdp_client.opa.response import parse_decision

from .test_metrics import samples

pytestmark = pytest.mark.anyio

CLOSED = (
    'package site\n\ndeny contains {"action": "search", "code": "closed", "message": "Closed."}\n'
)
SEALED = CLOSED + 'hidden contains "sealed"\n'


@pytest.fixture
def narrow(grants):
    """May call `state`, and nothing else."""
    bearer = grants.token("state", libraries=["poe", "sealed"])
    grants.lay()
    return bearer


async def test_shadow_call_runs_with_the_callers_own_libraries(serve_plain, grants, narrow):
    poor = grants.token("state")
    grants.lay()
    enforced = await serve_plain()
    assert "permission" in await enforced.refusal("search", bearer=narrow)

    watched = await serve_plain(shadow=True)

    assert await watched.call("search", bearer=narrow) == ["poe", "sealed"]
    assert await watched.call("search", bearer=poor) == []


async def test_shadow_mode_does_not_change_an_allowed_call(serve_plain, grants):
    wide = grants.token("search", libraries=["poe"])
    grants.lay()
    served = await serve_plain(shadow=True)

    assert await served.call("search", bearer=wide) == ["poe"]
    assert samples(served.metrics, "lictor_shadowed_total", "reason") == {}


async def test_only_the_tools_that_are_named_are_watched(serve_plain, narrow):
    served = await serve_plain(shadow={"search"})

    assert await served.call("search", bearer=narrow) == ["poe", "sealed"]
    assert "permission" in await served.refusal("delete", bearer=narrow)
    assert await served.tools(narrow) == {"get_health", "search", "state"}


async def test_shadow_site_rule_denies_nothing_but_still_hides_libraries(
    serve_plain, grants, narrow
):
    wide = grants.token("*", libraries=["poe", "sealed"])
    grants.rules(SEALED)
    enforced, watched = await serve_plain(), await serve_plain(shadow=True)

    assert await enforced.refusal("search", bearer=wide) == "Closed."
    assert await watched.call("search", bearer=wide) == ["poe"]
    assert await watched.call("search", bearer=narrow) == ["poe"]


@pytest.mark.parametrize("method", ["resources/read", "prompts/get"])
async def test_whole_server_watches_more_than_tools(serve_plain, narrow, method):
    served = await serve_plain(shadow=True)
    async with served.client(narrow) as client:
        if method == "prompts/get":
            assert (await client.get_prompt("ask")).messages
            assert {one.name for one in await client.list_prompts()} == {"ask"}
        else:
            assert (await client.read_resource("data://secret"))[0].text == "secret"
            assert {str(one.uri) for one in await client.list_resources()} == {"data://secret"}


async def test_shadow_list_shows_and_reports_what_would_be_hidden(guard, deployment, tmp_path):
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada", tools=["state"])
    await deployment.settle()
    log = tmp_path / "decisions.jsonl"
    served = await guard(
        deployment, pdp=deployment.pdp(record=FileRecord(log)), shadow={"search", "state"}
    )

    assert await served.tools(bearer) == {"get_health", "search", "state"}
    assert await served.tools("garbage") == {"get_health"}

    listed, refused = (json.loads(line)["list"] for line in log.read_text().splitlines())
    assert listed["shadowed"] == {"tools/call": ["search"]}
    assert listed["hidden"] == {"tools/call": ["delete", "crash"]}
    assert listed["shown"] == 2
    assert "shadowed" not in refused


async def test_shadow_refusal_is_recorded_logged_and_counted(guard, deployment, tmp_path, caplog):
    caplog.set_level("INFO", "mcp_plugin")
    await deployment.add_user("ada")
    await deployment.add_library("lib-a", "w")
    bearer = await deployment.create_token("ada", tools=["state"], libraries=["lib-a"])
    await deployment.settle()
    log = tmp_path / "decisions.jsonl"
    served = await guard(deployment, pdp=deployment.pdp(record=FileRecord(log)), shadow=True)

    await served.call("search", bearer=bearer)
    await served.call("state", bearer=bearer)

    written = map(json.loads, log.read_text().splitlines())
    denied, allowed = (line for line in written if "allow" in line)
    assert (denied["allow"], denied["reason"], denied["shadowed"]) == (
        False, "tool_not_allowed", True,
    )  # fmt: skip
    assert denied["libraries"] == ["lib-a"]
    assert allowed["allow"] is True
    assert "shadowed" not in allowed
    assert [r.getMessage() for r in caplog.records if "would_deny" in r.getMessage()] == [
        "mcp_auth.would_deny tool='search' reason=tool_not_allowed"
    ]
    assert samples(served.metrics, "lictor_shadowed_total", "method", "reason") == {
        ("tools/call", "tool_not_allowed"): 1
    }
    assert served.failures() == {}


async def test_shadow_tool_can_read_that_it_is_in_shadow_mode(serve_plain, narrow):
    mcp = FastMCP("knowing")

    @mcp.tool
    def reported(libraries: list[str] = AllowedLibraries()) -> str:
        decision = current_decision()
        return f"{decision.allow} {decision.shadowed} {decision.reason} {libraries}"

    served = await serve_plain(mcp, shadow=True)

    assert await served.call("reported", bearer=narrow) == (
        "False True tool_not_allowed ['poe', 'sealed']"
    )


@pytest.mark.parametrize("bearer", [None, "garbage", "a.b.c"])
async def test_shadow_mode_refuses_unauthenticated_callers(serve_plain, narrow, bearer):
    served = await serve_plain(shadow=True)

    assert await served.refusal("search", bearer=bearer)


async def test_shadow_mode_stops_at_revocation_lockdown_and_outage(
    serve, deployment, ada, lock_down
):
    served = await serve(shadow=True)
    narrow = await deployment.create_token("ada", tools=["state"], libraries=["lib-a"])
    await deployment.settle()
    assert await served.call("search", bearer=narrow) == ["lib-a"]

    await deployment.operator.disable_user("ada")
    await deployment.settle()
    assert await served.refusal("search", bearer=narrow) == "User account is disabled."
    await lock_down()
    assert "stopped all calls" in await served.refusal("search", bearer=narrow)
    deployment.opa.kill()
    assert "unavailable" in await served.refusal("search", bearer=narrow)


async def test_shadow_call_whose_refusal_cannot_be_recorded_is_denied(guard, deployment, tmp_path):
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada", tools=["state"])
    await deployment.settle()
    record = FileRecord(tmp_path / "decisions.jsonl")
    served = await guard(deployment, pdp=deployment.pdp(record=record), shadow=True)
    record.close()

    assert "unavailable" in await served.refusal("search", bearer=bearer)


async def test_shadow_mode_does_not_reuse_a_cached_refusal(plain_pdp, narrow):
    action = Action(name="search")

    watched = await plain_pdp.decide(narrow, action, shadow=True)
    plain = await plain_pdp.decide(narrow, action)

    assert (watched.runs, watched.libraries) == (True, ("poe", "sealed"))
    assert (plain.runs, plain.libraries) == (False, ())


REFUSED = {
    "allow": False, "reason": "tool_not_allowed", "reasons": ["tool_not_allowed"], "message": "No.",
    "principal": {"type": "token", "id": "lct_…1"}, "libraries": [], "epoch": 1, "revision": 1,
    "shadow": {"libraries": ["b", "a"]},
}  # fmt: skip


def test_shadow_response_counts_only_for_a_shadow_query():
    assert parse_decision(REFUSED, shadow=True).libraries == ("a", "b")
    assert not parse_decision(REFUSED).runs
    assert not parse_decision({**REFUSED, "shadow": None}, shadow=True).runs


@pytest.mark.parametrize(
    "odd",
    [
        {"reason": "token_expired", "reasons": ["token_expired"]},
        {"reasons": ["lockdown", "tool_not_allowed"]},
        {"reason": "stale_data", "reasons": ["site:closed", "site_rule", "stale_data"]},
        {"allow": True, "reason": "ok", "reasons": ["ok"]},
        {"principal": None},
        {"revision": None},
        {"shadow": {"libraries": None}},
        {"shadow": {}},
        {"shadow": True},
        {"shadow": ["a"]},
    ],
)
def test_shadow_response_with_another_effect_is_unusable(odd):
    with pytest.raises(ResponseUnusableError):
        parse_decision({**REFUSED, **odd}, shadow=True)
