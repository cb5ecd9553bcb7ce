"""What a site's rules read of a call's arguments is what the tool runs with."""

import enum
import logging
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, NamedTuple
from uuid import UUID, uuid4

import pytest
from fastmcp import Context, FastMCP
from fastmcp.server import create_proxy
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from mcp_plugin.exceptions import ArgumentsRefusedError
from mcp_plugin.protocol.schema_arguments import apply_defaults

pytestmark = pytest.mark.anyio


def unfit(parameter):
    return f"The argument '{parameter}' does not fit the tool's schema without conversion."


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


CASES = [
    ("search", {}, "ran"),
    ("search", {"limit": 100, "shelves": ["open"]}, "ran"),
    ("search", {"limit": 1000}, "Too many."),
    ("search", {"limit": "1000"}, unfit("limit")),
    ("search", {"limit": 1000.0}, "Too many."),
    ("search", {"force": True}, "No force."),
    ("search", {"force": "yes"}, unfit("force")),
    ("search", {"force": 1}, unfit("force")),
    ("search", {"shelves": ["shut"]}, "Not that shelf."),
    ("search", {"shelves": '["shut"]'}, unfit("shelves")),
    ("search", {"shelves": "shut"}, unfit("shelves")),
    # What is left out is what the tool makes of it.
    ("wipe", {}, "No force."),
    ("wipe", {"force": False}, "ran"),
    # The caller did not send the default, so it need not fit.
    ("odd", {}, "ran"),
    ("odd", {"force": True}, "No force."),
    ("odd", {"limit": None}, unfit("limit")),
    ("dig", {"plan": {}}, "ran"),
    ("dig", {"plan": {"steps": [{"name": "x", "depth": 3}]}}, "ran"),
    ("dig", {"plan": {"steps": [{"depth": 3}, {"name": "x"}]}}, "Not that deep."),
    ("dig", {"plan": {"steps": [{"depth": False}]}}, unfit("plan")),
    ("dig", {"plan": '{"steps": [{"depth": 9}]}'}, unfit("plan")),
]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_rules_read_the_arguments_that_the_tool_runs_with(served, mode):
    for tool, arguments, text in CASES:
        served.mcp.ran.clear()
        assert (await said(served, tool, arguments, mode)) == text, (tool, arguments)
        assert len(served.mcp.ran) == (text == "ran"), (tool, arguments)


async def test_unpermitted_caller_learns_nothing_of_parameters(served, grants):
    served.bearer = grants.token("dig")
    grants.lay()
    assert "does not have permission" in await said(served, "search", {"limit": "x"})


async def test_shadow_mode_logs_invalid_arguments_and_runs_the_call(serve_plain, grants, caplog):
    caplog.set_level(logging.INFO, "mcp_plugin")
    served = await serve_plain(library(), shadow={"search"})
    served.bearer = grants.token("*")
    grants.rules(RULES, arguments=True)
    assert await said(served, "search", {"limit": "1000"}) == "ran"
    assert "mcp_auth.would_deny tool='search' reason=arguments_refused" in caplog.text
    assert await said(served, "wipe", {"force": "yes"}) == unfit("force")
    assert "mcp_auth.denied tool='wipe' reason=arguments_refused" in caplog.text


async def test_arguments_are_coerced_as_usual_where_no_rule_reads_them(serve_plain, grants):
    served = await serve_plain(library())
    served.bearer = grants.token("*")
    grants.lay()
    assert await said(served, "search", {"limit": "1000", "force": "yes"}) == "ran"
    assert served.mcp.ran == [(1000, True, [])]


def test_defaults_are_applied_at_any_depth_by_the_matching_branch():
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


CONVERTED = {
    "alias": {"opts": {"max_rows": 1000}},
    "unknown member": {"opts": {"maxRows": 1, "more": 1}},
    "upper-case UUID": {"uuid": "6F9619FF-8B86-D011-B42D-00C04FC964FF"},
    "URN of a UUID": {"uuid": "urn:uuid:6f9619ff-8b86-d011-b42d-00c04fc964ff"},
    "UUID in braces": {"uuid": "{6f9619ff-8b86-d011-b42d-00c04fc964ff}"},
    "seconds for a date": {"day": "1704067200"},
    "date and time for a date": {"day": "2024-01-01T00:00:00"},
    "another zone's spelling": {"moment": "2024-01-01T00:00:00+00:00"},
    "seconds for a moment": {"moment": 1704067200},
    "two slashes": {"path": "/etc//passwd"},
    "a dot": {"path": "/etc/./passwd"},
    "text for a decimal": {"amount": "1000"},
    "text for a float": {"ratio": "0.5"},
    "a set's duplicates": {"tags": ["a", "a"]},
    "blanks that are stripped": {"word": " shut "},
    "upper case that is lowered": {"word": "SHUT"},
    "an enum's other spelling": {"shade": "DARK"},
    "number for text": {"word": 5},
    "bool for an int": {"count": True},
    "numeric text in a list": {"counts": ["1", 2]},
    "numeric text for a key": {"table": {"01": 1}},
    "text for None": {"maybe": "null"},
    "dict for a pair": {"pair": {"x": 1, "y": 2}},
}
AS_SENT = [
    {},
    {"opts": {"maxRows": 10}},
    {"opts": {}},
    {"uuid": "6f9619ff-8b86-d011-b42d-00c04fc964ff"},
    {"day": "2024-01-01", "moment": "2024-01-01T00:00:00Z", "path": "/etc/passwd"},
    {"amount": 1000, "ratio": 1, "count": 2.0},
    {"amount": 10.25, "tags": ["b", "a"], "word": "shut", "shade": "dark"},
    {"counts": [1, 2], "table": {"1": 1}, "maybe": None, "pair": [1, 2]},
    {"either": {"b": 1}, "plain": {"any": [{"thing": None}]}},
]
DECLARED = """package site

deny contains {"action": a.name, "code": "rows", "message": "Too many rows."} if {
	some a in data.lictor.actions
	a.arguments.opts.maxRows > 100
}

deny contains {"action": a.name, "code": "branch", "message": "Not that branch."} if {
	some a in data.lictor.actions
	a.arguments.either.level == 2
}
"""


class Options(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    max_rows: int = Field(10, alias="maxRows")


class First(BaseModel):
    b: int | None = None
    level: int = 1


class Second(BaseModel):
    b: int
    level: int = 2


class Shade(enum.Enum):
    DARK = "dark"

    @classmethod
    def _missing_(cls, value):
        return cls[value.upper()]


class Pair(NamedTuple):
    x: int
    y: int


def typed():
    mcp = FastMCP("typed")
    mcp.ran = []

    @mcp.tool
    def run(  # noqa: PLR0917
        opts: Options | None = None,
        uuid: UUID | None = None,
        day: date | None = None,
        moment: datetime | None = None,
        path: Path = Path("/tmp"),
        amount: Decimal = Decimal("1.5"),
        ratio: float = 0.1,
        tags: set[str] = frozenset(),
        word: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)] = "open",
        shade: Shade = Shade.DARK,
        count: int = 0,
        counts: list[int] = [],  # noqa: B006
        table: dict[int, int] = {},  # noqa: B006
        maybe: int | None = None,
        pair: Pair = Pair(1, 2),  # noqa: B008
        either: First | Second | None = None,
        plain: dict | None = None,
        ctx: Context = None,
    ) -> str:
        mcp.ran.append(opts)
        return "ran"

    return mcp


@pytest.fixture(params=["own", "mounted"])
async def serving_typed(request, serve_plain, grants):
    inner = typed()
    outer = inner
    if request.param == "mounted":
        outer = FastMCP("outer")
        outer.mount(inner)
    served = await serve_plain(outer)
    served.inner, served.bearer = inner, grants.token("*")
    grants.rules(DECLARED, arguments=True)
    return served


async def test_arguments_that_pydantic_converts_are_refused_by_name(serving_typed):
    for what, arguments in CONVERTED.items():
        (parameter,) = arguments
        assert await said(serving_typed, "run", arguments) == unfit(parameter), what
    assert serving_typed.inner.ran == []


async def test_arguments_unchanged_by_coercion_run(serving_typed):
    for arguments in AS_SENT:
        assert await said(serving_typed, "run", arguments) == "ran", arguments
    assert len(serving_typed.inner.ran) == len(AS_SENT)


async def test_rules_see_aliases_and_the_chosen_branch_of_a_union(serving_typed):
    assert await said(serving_typed, "run", {"opts": {"maxRows": 1000}}) == "Too many rows."
    chosen = TypeAdapter(First | Second).validate_python({"b": 1})
    text = await said(serving_typed, "run", {"either": {"b": 1}})
    assert text == ("Not that branch." if chosen.level == 2 else "ran")


async def test_arguments_of_other_tools_are_not_restricted(make_deployment, guard):
    deployment = await make_deployment(
        site="""package site

deny contains {"action": a.name, "code": "large", "message": "Too large."} if {
	some a in data.lictor.actions
	a.name == "transfer"
	is_number(a.arguments.amount)
	a.arguments.amount > 100
}
"""
    )
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada")
    await deployment.settle()
    served = await guard(deployment)

    @served.mcp.tool
    def transfer(amount: int) -> str:
        return f"sent {amount}"

    @served.mcp.tool
    def fetch(limit: int) -> str:
        return f"fetched {limit}"

    for _ in range(2):
        assert await served.call("fetch", {"limit": "5"}, bearer=bearer) == "fetched 5"
        assert await served.refusal("transfer", {"amount": "5"}, bearer=bearer) == unfit("amount")
        assert await served.refusal("transfer", {"amount": 500}, bearer=bearer) == "Too large."
        assert await served.call("transfer", {"amount": 5}, bearer=bearer) == "sent 5"


async def test_defaults_that_differ_each_time_must_be_sent(serve_plain, grants):
    mcp = FastMCP("unstable")

    @mcp.tool
    def put(key: Annotated[UUID, Field(default_factory=uuid4)]) -> str:
        return "ran"

    served = await serve_plain(mcp)
    served.bearer = grants.token("*")
    grants.rules(DECLARED, arguments=True)
    assert await said(served, "put", {}) == unfit("key")
    assert await said(served, "put", {"key": str(uuid4())}) == "ran"


async def test_arguments_of_a_proxied_tool_are_read_by_its_schema(serve_plain, grants):
    inner = typed()
    served = await serve_plain(create_proxy(inner))
    served.bearer = grants.token("*")
    grants.rules(DECLARED, arguments=True)
    assert await said(served, "run", {"opts": {"maxRows": 1000}}) == "Too many rows."
    for what in (
        "alias", "unknown member", "upper-case UUID", "URN of a UUID", "seconds for a date",
        "another zone's spelling", "two slashes", "text for a float", "bool for an int",
    ):  # fmt: skip
        (parameter,) = CONVERTED[what]
        assert await said(served, "run", CONVERTED[what]) == unfit(parameter), what
    # Two branches of the union fit, and their defaults differ: no rule could tell.
    assert await said(served, "run", {"either": {"b": 1}}) == unfit("either")
    assert inner.ran == []
    assert await said(served, "run", {"opts": {"maxRows": 10}, "day": "2024-01-01"}) == "ran"


def test_member_named_by_a_pattern_gets_the_defaults_of_its_schema():
    option = {"type": "object", "properties": {"n": {"default": 1}, "m": {}}}
    schema = {"properties": {"a": {"type": "object", "patternProperties": {"^x-": option}}}}
    assert apply_defaults(schema, {"a": {"x-one": {"m": 2}}}) == {"a": {"x-one": {"m": 2, "n": 1}}}
    with pytest.raises(ArgumentsRefusedError):
        apply_defaults(schema, {"a": {"one": {"m": 2}}})


def test_unions_within_unions_end_in_a_refusal_not_in_hours():
    tree = {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}, "n": {"default": 1}}}
    other = {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}, "m": {"default": 1}}}
    schema = {"$defs": {"T": {"anyOf": [tree, other]}}, "properties": {"a": {"$ref": "#/$defs/T"}}}
    deep = {}
    for _ in range(25):
        deep = {"next": deep}
    with pytest.raises(ArgumentsRefusedError):
        apply_defaults(schema, {"a": deep})


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
def test_arguments_with_an_unusable_schema_are_refused(schema):
    with pytest.raises(ArgumentsRefusedError):
        apply_defaults(schema, {"a": "x"})


async def test_arguments_nested_beyond_reason_are_refused(served):
    deep = []
    for _ in range(150):
        deep = [deep]
    assert await said(served, "search", {"shelves": deep}) != "ran"
    assert served.mcp.ran == []
