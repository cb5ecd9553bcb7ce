"""`require_auth=False`: failed authentication passes, and nothing else does."""

import pytest

pytestmark = pytest.mark.anyio

ANONYMOUS_STATE = {
    "mcp_user": None,
    "mcp_token": None,
    "mcp_claims": "None",
    "mcp_resolved_libraries": None,
}


async def test_call_without_a_bearer_runs_without_libraries(serve):
    served = await serve(require_auth=False)

    assert await served.call("state") == ANONYMOUS_STATE
    assert served.failures() == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer garbage"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic eA=="},
    ],
)
async def test_bad_bearer_is_counted_and_runs_without_libraries(serve, headers):
    served = await serve(require_auth=False)

    assert await served.call("state", headers=headers) == ANONYMOUS_STATE
    assert served.failures() == {"invalid_token": 1}


async def test_revoked_token_leaves_no_trace_of_its_owner(serve, deployment, ada):
    served = await serve(require_auth=False)
    await deployment.operator.disable_user("ada")
    await deployment.settle()

    assert await served.call("state", bearer=ada) == ANONYMOUS_STATE
    assert served.failures() == {"user_disabled": 1}


async def test_tool_that_requires_libraries_is_still_refused(serve, ada):
    served = await serve(require_auth=False)

    assert "needs the libraries" in await served.refusal("search")
    assert "needs the libraries" in await served.refusal("search", bearer="garbage")
    assert await served.call("search", bearer=ada) == ["lib-a", "lib-b"]


async def test_good_tokens_tools_still_hold(serve, deployment, ada):
    served = await serve(require_auth=False)
    narrow = await deployment.create_token("ada", tools=["state"])
    await deployment.settle()

    assert "permission" in await served.refusal("delete", bearer=narrow)
    assert await served.call("delete") == "deleted"
    assert served.failures() == {"tool_not_allowed": 1}


async def test_garbage_passes_neither_lockdown_nor_an_outage(serve, deployment, lock_down):
    served = await serve(require_auth=False)
    await lock_down()
    for bearer in (None, "garbage"):
        assert await served.refusal("delete", bearer=bearer) == "An operator has stopped all calls."

    deployment.opa.kill()

    for bearer in (None, "garbage"):
        assert "unavailable" in await served.refusal("delete", bearer=bearer)
    assert served.failures() == {"lockdown": 2, "unavailable": 2}


async def test_garbage_passes_no_rule_of_the_site_s(make_deployment, guard):
    rule = """package site

deny contains {"action": a.name, "code": "no", "message": "Not here."} if {
	some a in data.lictor.actions
	a.name == "delete"
}
"""
    served = await guard(await make_deployment(site=rule), require_auth=False)

    for bearer in (None, "garbage"):
        await served.refusal("delete", bearer=bearer)
        assert await served.call("state", bearer=bearer) == ANONYMOUS_STATE


async def test_current_decision_is_the_refusal_that_was_passed(serve):
    from mcp_plugin import current_decision

    served = await serve(require_auth=False)

    @served.mcp.tool
    def whoami() -> dict:
        decision = current_decision()
        return {"allow": decision.allow, "reason": decision.reason.value}

    let_through = {"allow": False, "reason": "missing_token"}
    assert await served.call("whoami") == let_through
    assert await served.call("whoami", bearer="garbage") == let_through
    assert current_decision() is None
