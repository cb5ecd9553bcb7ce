"""Large names, URIs and methods of strangers cost neither time, memory nor disk."""

import json
import time

import pytest
from fastmcp import FastMCP

from pdp_client import PDP, BearerVerifier, FileRecord

pytestmark = pytest.mark.anyio

LARGE = 900_000


@pytest.fixture
async def recorded(plain_opa, tmp_path):
    """A PDP with a record, and the record's lines."""
    log = tmp_path / "decisions.jsonl"
    record = FileRecord(log)
    async with PDP(
        opa_url=plain_opa.unix_url, verifier=BearerVerifier([]), record=record, deadline=10
    ) as pdp:
        yield pdp, lambda: log.read_bytes().splitlines()


def library():
    mcp = FastMCP("library")

    @mcp.tool
    def search(query: str = "") -> str:
        return query

    @mcp.resource("data://{a}/x/{b}/y/{c}")
    def nested(a: str, b: str, c: str) -> str:
        return a + b + c

    @mcp.prompt
    def ask() -> str:
        return "a prompt"

    return mcp


LONG = "data://" + "a/x/b/y/" * (LARGE // 8)


@pytest.mark.parametrize("require_auth", [True, False])
async def test_large_names_are_refused_before_any_look_up(
    serve_plain, grants, guard, recorded, require_auth
):
    pdp, lines = recorded
    bearer = grants.token("*", "resources/read:*", "prompts/get:*")
    grants.lay()
    mcp = library()
    looked_up = []
    for kind in ("get_tool", "get_resource", "get_resource_template", "get_prompt"):
        find = getattr(mcp, kind)

        async def watched(name, *args, find=find, **kwargs):
            looked_up.append(name)
            return await find(name, *args, **kwargs)

        setattr(mcp, kind, watched)
    served = await guard(
        None, mcp, pdp=pdp, http={"json_response": True, "stateless_http": True},
        require_auth=require_auth,
    )  # fmt: skip
    requests = [
        ("tools/call", {"name": "x" * LARGE, "arguments": {}}),
        ("resources/read", {"uri": LONG}),
        ("prompts/get", {"name": "x" * LARGE}),
        ("resources/subscribe", {"uri": LONG}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x" * LARGE}, "argument": {"name": "a", "value": "b"}}),
        ("x" * LARGE, {}),
    ]  # fmt: skip
    for who in (None, bearer):
        for method, params in requests:
            answer = await served.raw(method, params, bearer=who)
            text = json.dumps(answer)
            assert "error" in answer or answer["result"]["isError"], text[:300]
            assert len(text) < 2000
    assert not [name for name in looked_up if len(name) > 1024]
    assert lines()
    assert max(map(len, lines())) < 4000


async def test_matching_a_long_uri_takes_no_longer_than_parsing_it(serve_plain, grants):
    grants.lay()
    served = await serve_plain(library(), http={"json_response": True, "stateless_http": True})

    async def seconds(uri):
        began = time.perf_counter()
        await served.raw("resources/read", {"uri": uri})
        return time.perf_counter() - began

    await seconds(LONG)
    short = min([await seconds("data://" + "a" * (LARGE - 7)) for _ in range(3)])
    assert min([await seconds(LONG) for _ in range(3)]) < 10 * short
