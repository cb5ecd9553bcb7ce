"""What an agent gets with a refusal: its kind, whether trying again can help, what is needed."""

import pytest
from fastmcp import FastMCP
from mcp import MCPError
from mcp_types import INTERNAL_ERROR

from mcp_plugin import checks_libraries
from mcp_plugin.denials import DENIAL

pytestmark = pytest.mark.anyio

CLOSED = """package site

deny contains {"action": a, "code": "closed", "message": "Closed."} if {
	some a in data.lictor.actions
	a.name == "delete"
}

deny contains {"action": a.name, "code": "large", "message": "Too large."} if {
	some a in data.lictor.actions
	is_number(a.arguments.size)
	a.arguments.size > 100
}
"""


def shop():
    mcp = FastMCP("shop")

    @mcp.tool
    def delete() -> str:
        return "deleted"

    @mcp.tool(
        output_schema={
            "type": "object",
            "properties": {"size": {"type": "integer"}},
            "required": ["size"],
        }
    )
    def measure(size: int) -> dict:
        return {"size": size}

    return mcp


async def denial(served, bearer, tool, arguments=None, mode="auto"):
    async with served.client(bearer, mode=mode) as client:
        result = await client.call_tool(tool, arguments or {}, raise_on_error=False)
    assert result.is_error
    assert result.structured_content is None
    assert result.content[0].text
    return result.meta[DENIAL]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_refusals_say_what_would_help(serve_plain, grants, mode):
    good, narrow = grants.token("*"), grants.token("other")
    grants.rules(CLOSED, arguments=True)
    served = await serve_plain(shop())
    assert await denial(served, None, "delete", mode=mode) == {
        "reason": "missing_token", "class": "authentication", "retry": "with_another_bearer",
        "needed": "a bearer token in the Authorization header",
    }  # fmt: skip
    assert (await denial(served, "x" * 40, "delete", mode=mode))["retry"] == "with_another_bearer"
    assert await denial(served, narrow, "measure", {"size": 1}, mode) == {
        "reason": "tool_not_allowed", "class": "authorisation", "retry": "no",
        "needed": "a grant from the server's operator",
    }  # fmt: skip
    refused = await denial(served, good, "delete", mode=mode)
    assert (refused["reason"], refused["rules"], refused["retry"]) == (
        "site_rule",
        ["closed"],
        "no",
    )
    converted = await denial(served, good, "measure", {"size": "5"}, mode)
    assert (converted["retry"], converted["parameter"]) == ("with_other_arguments", "size")


async def test_outages_and_lockdown_say_that_time_helps(serve_plain, grants):
    bearer = grants.token("*")
    grants.lay(staleness_limit=-1)
    served = await serve_plain(shop())
    refused = await denial(served, bearer, "delete")
    assert (refused["class"], refused["retry"]) == ("outage", "later")
    grants.lay(lockdown=True)
    refused = await denial(served, bearer, "delete")
    assert (refused["reason"], refused["retry"]) == ("lockdown", "later")


def add_outer(mcp, act):
    """A tool that answers with the exception in which something that it does ends."""

    @mcp.tool
    async def outer() -> str:
        try:
            await act()
        except Exception as error:  # noqa: BLE001 - which one is asserted
            return type(error).__name__
        return "it ran"


async def test_a_call_that_a_tool_makes_is_refused_by_an_exception(serve_plain, grants):
    mcp = shop()

    add_outer(mcp, lambda: mcp.call_tool("delete"))
    bearer = grants.token("outer")
    grants.lay()
    served = await serve_plain(mcp)
    assert await served.call("outer", bearer=bearer) == "CallDenied"


async def test_errors_of_the_protocol_carry_it_too(serve_plain, grants):
    bearer = grants.token()
    grants.lay()
    served = await serve_plain(shop(), http={"json_response": True, "stateless_http": True})
    answer = await served.raw("resources/subscribe", {"uri": "data://x"}, bearer=bearer)
    assert answer["error"]["data"][DENIAL]["reason"] == "tool_not_allowed"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_refused_reads_and_prompts_carry_it_in_data(serve_plain, grants, mode):
    mcp = shop()

    @mcp.resource("data://x")
    def data() -> str:
        return "secret"

    @mcp.resource("data://library/{name}")
    @checks_libraries("name")
    def library(name: str) -> str:
        return "secret"

    @mcp.prompt
    def ask() -> str:
        return "secret"

    bearer = grants.token("resources/read:data://library/*", libraries=["poe"])
    grants.lay()
    served = await serve_plain(mcp)
    async with served.client(bearer, mode=mode) as client:
        for asked, reason in (
            (client.read_resource("data://x"), "tool_not_allowed"),
            (client.read_resource("data://unknown"), "tool_not_allowed"),
            (client.read_resource("data://library/shelley"), "library_not_allowed"),
            (client.get_prompt("ask"), "tool_not_allowed"),
        ):
            with pytest.raises(MCPError) as refused:
                await asked
            assert refused.value.error.code == INTERNAL_ERROR
            assert refused.value.error.data[DENIAL]["reason"] == reason
            assert refused.value.error.data[DENIAL]["class"] == "authorisation"


async def test_a_read_that_a_tool_makes_is_refused_by_an_exception(serve_plain, grants):
    mcp = shop()

    @mcp.resource("data://x")
    def data() -> str:
        return "secret"

    add_outer(mcp, lambda: mcp.read_resource("data://x"))
    bearer = grants.token("outer")
    grants.lay()
    served = await serve_plain(mcp)
    assert await served.call("outer", bearer=bearer) == "CallDenied"
