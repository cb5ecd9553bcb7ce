"""What a site's rules read of a call's arguments is what the tool runs with."""

import logging

import pytest
from fastmcp import FastMCP
from pydantic import BaseModel

from mcp_plugin.exceptions import ArgumentsRefusedError
from mcp_plugin.protocol.arguments import apply_defaults

pytestmark = pytest.mark.anyio

UNFIT = "The arguments do not fit the tool's schema."
# The first rule is the one of docs/how-to/write-a-site-rule.md.
RULES = """package site

import data.lictor

deny contains {"action": a.name, "code": "limit", "message": "Too many."} if {
	some a in lictor.actions
	is_number(a.arguments.limit)
	a.arguments.limit > 100
}

deny contains {"action": a.name, "code": "force", "message": "No force."} if {
	some a in lictor.actions
	a.arguments.force == true
}

deny contains {"action": a.name, "code": "shelf", "message": "Not that shelf."} if {
	some a in lictor.actions
	"shut" in a.arguments.shelves
}

deny contains {"action": a.name, "code": "deep", "message": "Not that deep."} if {
	some a in lictor.actions
	some step in a.arguments.plan.steps
	step.depth > 3
}
"""


class Step(BaseModel):
    name: str = "down"
    depth: int = 4


class Plan(BaseModel):
    steps: list[Step] = [Step(depth=1)]


def library():
    mcp = FastMCP("library")
    mcp.ran = []

    @mcp.tool
    def search(limit: int = 10, force: bool = False, shelves: list[str] = []) -> str:  # noqa: B006
        mcp.ran.append((limit, force, shelves))
        return "ran"

    @mcp.tool
    def wipe(force: bool = True) -> str:
        mcp.ran.append(force)
        return "ran"

    @mcp.tool
    def odd(limit: int = None, force: bool = False) -> str:  # noqa: RUF013 - it is written so
        mcp.ran.append((limit, force))
        return "ran"

    @mcp.tool
    def dig(plan: Plan) -> str:
        mcp.ran.append(plan)
        return "ran"

    return mcp


@pytest.fixture
async def served(serve_plain, grants):
    served = await serve_plain(library())
    served.bearer = grants.token("*")
    grants.rules(RULES, arguments=True)
    return served


async def said(served, tool, arguments, mode="auto"):
    async with served.client(served.bearer, mode=mode) as client:
        result = await client.call_tool(tool, arguments, raise_on_error=False)
    return result.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("search", {}, "ran"),
        ("search", {"limit": 100, "shelves": ["open"]}, "ran"),
        ("search", {"limit": 1000}, "Too many."),
        ("search", {"limit": "1000"}, UNFIT),
        ("search", {"limit": 1000.0}, "Too many."),
        ("search", {"force": True}, "No force."),
        ("search", {"force": "yes"}, UNFIT),
        ("search", {"force": 1}, UNFIT),
        ("search", {"shelves": ["shut"]}, "Not that shelf."),
        ("search", {"shelves": '["shut"]'}, UNFIT),
        ("search", {"shelves": "shut"}, UNFIT),
        # What is left out is what the tool makes of it.
        ("wipe", {}, "No force."),
        ("wipe", {"force": False}, "ran"),
        # Nobody sent the default, so it need not fit.
        ("odd", {}, "ran"),
        ("odd", {"force": True}, "No force."),
        ("odd", {"limit": None}, UNFIT),
        ("dig", {"plan": {}}, "ran"),
        ("dig", {"plan": {"steps": [{"name": "x", "depth": 3}]}}, "ran"),
        ("dig", {"plan": {"steps": [{"depth": 3}, {"name": "x"}]}}, "Not that deep."),
        ("dig", {"plan": {"steps": [{"depth": False}]}}, UNFIT),
        ("dig", {"plan": '{"steps": [{"depth": 9}]}'}, UNFIT),
    ],
)
async def test_rules_read_the_arguments_that_the_tool_runs_with(
    served, tool, arguments, text, mode
):
    assert (await said(served, tool, arguments, mode)) == text
    assert len(served.mcp.ran) == (text == "ran")


async def test_who_may_not_call_a_tool_learns_nothing_of_its_parameters(served, grants):
    served.bearer = grants.token("dig")
    grants.lay()
    assert "does not have permission" in await said(served, "search", {"limit": "x"})


async def test_in_shadow_mode_arguments_that_do_not_fit_stop_nothing_and_are_logged(
    serve_plain, grants, caplog
):
    caplog.set_level(logging.INFO, "mcp_plugin")
    served = await serve_plain(library(), shadow={"search"})
    served.bearer = grants.token("*")
    grants.rules(RULES, arguments=True)
    assert await said(served, "search", {"limit": "1000"}) == "ran"
    assert "mcp_auth.would_deny tool='search' reason=arguments_refused" in caplog.text
    assert await said(served, "wipe", {"force": "yes"}) == UNFIT
    assert "mcp_auth.denied tool='wipe' reason=arguments_refused" in caplog.text


async def test_where_no_rule_reads_arguments_fastmcp_takes_them_as_ever(serve_plain, grants):
    served = await serve_plain(library())
    served.bearer = grants.token("*")
    grants.lay()
    assert await said(served, "search", {"limit": "1000", "force": "yes"}) == "ran"
    assert served.mcp.ran == [(1000, True, [])]


def test_defaults_are_filled_in_at_any_depth_by_the_branch_that_fits():
    schema = {
        "type": "object",
        "$defs": {
            "A~/b": {"type": "object", "properties": {"n": {"default": 1}}, "required": ["a"]},
            "B": {"type": "object", "properties": {"m": {"default": [2]}}, "required": ["b"]},
        },
        "properties": {
            "one": {"anyOf": [{"$ref": "#/$defs/A~0~1b"}, {"$ref": "#/$defs/B"}, {"type": "null"}]},
            "pair": {"prefixItems": [{"$ref": "#/$defs/B"}], "items": {"$ref": "#/$defs/A~0~1b"}},
            "all": {"allOf": [{"properties": {"x": {"default": 5}}}, True]},
        },
        "additionalProperties": {"properties": {"y": {"default": 6}}},
    }
    sent = {"one": {"b": 0}, "pair": [{"b": 0}, {"a": 0}], "all": {}, "more": {}}
    assert apply_defaults(schema, sent) == {
        "one": {"b": 0, "m": [2]},
        "pair": [{"b": 0, "m": [2]}, {"a": 0, "n": 1}],
        "all": {"x": 5},
        "more": {"y": 6},
    }
    assert sent == {"one": {"b": 0}, "pair": [{"b": 0}, {"a": 0}], "all": {}, "more": {}}
    assert apply_defaults(schema, {"one": None}) == {"one": None}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#/$defs/nowhere"}}},
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/elsewhere"}}},
        {"properties": {"a": {"pattern": "("}}},
        {"properties": {"a": {"type": "no such type"}}},
        {"properties": []},
        False,
    ],
)
def test_a_schema_that_nobody_can_go_by_lets_nothing_through(schema):
    with pytest.raises(ArgumentsRefusedError):
        apply_defaults(schema, {"a": "x"})


async def test_arguments_nested_beyond_reason_are_refused(served):
    deep = []
    for _ in range(150):
        deep = [deep]
    assert await said(served, "search", {"shelves": deep}) != "ran"
    assert served.mcp.ran == []
