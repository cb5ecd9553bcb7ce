"""From a bearer to a decision, through everything that is real."""

import pytest

pytestmark = pytest.mark.anyio


async def test_token_is_allowed_its_tools_and_libraries(deployment):
    await deployment.add_user("ada", name="Ada")
    await deployment.add_library("lib-a", "w")
    bearer = await deployment.create_token("ada", tools=["search"], libraries=["lib-a"])
    await deployment.settle()
    pdp = deployment.pdp()

    decision = await pdp.authorize(bearer, tool="search")

    assert decision.allow is True
    assert decision.libraries == ("lib-a",)
    assert (await pdp.authorize(bearer, tool="delete")).reason == "tool_not_allowed"
