"""The tool list: what each caller sees of it."""

import pytest

pytestmark = pytest.mark.anyio

ALL = {"get_health", "search", "delete", "state", "crash"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_list_shows_what_the_caller_may_call(serve, deployment, ada, mode):
    served = await serve()
    narrow = await deployment.create_token("ada", tools=["sea*", "delete"])
    _, team = await deployment.create_team("Docs", owner="ada", tools=["state"])
    await deployment.settle()

    assert await served.tools(ada, mode=mode) == ALL
    assert await served.tools(narrow, mode=mode) == {"get_health", "search", "delete"}
    assert await served.tools(team, mode=mode) == {"get_health", "state"}


async def test_list_for_anonymous_callers_shows_what_is_listable(serve):
    served = await serve()

    assert await served.tools() == ALL
    assert await served.tools("garbage") == {"get_health"}
    assert await served.tools(headers={"Authorization": "Basic eA=="}) == {"get_health"}


async def test_list_without_token_shows_public_tools_where_disabled(serve, deployment, ada):
    served = await serve(list_without_token=False)

    assert await served.tools() == {"get_health"}
    assert await served.tools("garbage") == {"get_health"}
    assert await served.tools(ada) == ALL


async def test_list_in_lockdown_or_without_opa_is_public_tools(serve, deployment, ada, lock_down):
    served = await serve()
    await lock_down()
    assert await served.tools(ada) == {"get_health"}

    deployment.opa.kill()

    assert await served.tools(ada) == {"get_health"}
    assert await served.tools() == {"get_health"}


async def test_tool_list_is_one_query_of_any_length(serve, deployment, ada):
    pdp = deployment.pdp()
    asked = []
    ask = pdp._transport.query

    async def counting(rule, sent):
        asked.append(rule)
        return await ask(rule, sent)

    pdp._transport.query = counting
    served = await serve(pdp=pdp)

    await served.tools(ada)

    assert asked == ["visible"]


async def test_server_without_tools_lists_none(serve, ada):
    from fastmcp import FastMCP

    served = await serve(FastMCP("empty"))

    assert await served.tools(ada) == set()
