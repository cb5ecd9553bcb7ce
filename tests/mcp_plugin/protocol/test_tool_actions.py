"""The actions of a list's tools are those of the tools as they are now."""

import pytest
from fastmcp.tools import Tool
from mcp_types import ToolAnnotations

from mcp_plugin.protocol import actions


def tool(name, **more):
    def run(query: str) -> str:
        return query

    return Tool.from_function(run, name=name, tags={"read"}, **more)


def made(tools):
    return [actions.call(one.name, one) for one in tools]


def test_actions_of_an_unchanged_list_are_kept():
    tools = [tool("a"), tool("b", version="2", annotations=ToolAnnotations(read_only_hint=True))]
    known = actions.ToolActions()
    first = known.of(tools)
    assert first == made(tools)
    assert all(one is other for one, other in zip(known.of(tools), first, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.tags.add("delete"),
        lambda one: setattr(one, "tags", {"write"}),
        lambda one: setattr(one, "name", "other"),
        lambda one: setattr(one, "version", "3"),
        lambda one: setattr(one, "annotations", None),
        lambda one: setattr(one.annotations, "read_only_hint", False),
    ],
)
def test_action_of_a_tool_changed_in_place_is_made_anew(change):
    changed = tool("a", version="2", annotations=ToolAnnotations(read_only_hint=True))
    known = actions.ToolActions()
    known.of([changed])
    change(changed)
    assert known.of([changed]) == made([changed])


def test_actions_follow_a_list_that_grows_shrinks_or_is_reordered():
    first, second, third = tool("a"), tool("b"), tool("c")
    known = actions.ToolActions()
    for tools in ([first], [first, second, third], [third, first], [], [second]):
        assert known.of(tools) == made(tools)
