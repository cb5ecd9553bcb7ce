"""Resources whose own URI is unusual are listed and read under it, and under no other spelling."""

import json

import pytest
from fastmcp import FastMCP
from fastmcp.resources import TextResource
from fastmcp.server.providers.skills import SkillProvider
from mcp import MCPError

from pdp_client import PDP, BearerVerifier, FileRecord

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:`SkillProvider` is deprecated"),
]

NAMES = ["R&D.md", "C#.md", "100%.md", "a b.md", "q?.md", "ü.md", "x=y;z.md", "50%25.md"]
REGISTERED = [
    "file:///c%3A/notes.txt", "data://a%2Fb", "data://a//b", "data://a#b", "data://x?y=1+2",
]  # fmt: skip
CLOSED = """package site

deny contains {"action": a, "code": "closed", "message": "Closed."} if {
	some a in data.lictor.actions
	contains(a.uri, "C%23.md")
}
"""


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: s\ndescription: A skill.\n---\nRead.\n")
    for name in NAMES:
        (folder / name).write_text(name)
    mcp = FastMCP("library")
    mcp.add_provider(SkillProvider(folder, supporting_files="resources"))
    for uri in REGISTERED:
        mcp.add_resource(TextResource(uri=uri, text=uri))
    return mcp


@pytest.fixture
async def recorded(plain_opa, grants, tmp_path):
    """A PDP with a record, and its lines."""
    log = tmp_path / "decisions.jsonl"
    verifier = BearerVerifier([])
    record = FileRecord(log)
    async with PDP(
        opa_url=plain_opa.unix_url, verifier=verifier, record=record, deadline=10
    ) as pdp:
        yield pdp, lambda: [json.loads(line) for line in log.read_text().splitlines()]


async def test_unusual_uris_of_listed_resources_are_listed_and_read(serve_plain, grants, library):
    bearer = grants.token("*", "resources/read:*")
    grants.lay()
    served = await serve_plain(library)
    async with served.client(bearer) as client:
        listed = {str(one.uri) for one in await client.list_resources()}
        assert len(listed) == len(NAMES) + len(REGISTERED) + 2
        for uri in listed:
            assert (await client.read_resource(uri))[0].text, uri


async def test_rules_decide_on_the_text_that_is_listed(serve_plain, grants, library):
    bearer = grants.token("*", "resources/read:*")
    grants.rules(CLOSED)
    served = await serve_plain(library)
    async with served.client(bearer) as client:
        assert "skill://s/C%23.md" not in {str(one.uri) for one in await client.list_resources()}
        with pytest.raises(MCPError, match=r"Closed\."):
            await client.read_resource("skill://s/C%23.md")
        for other in ("skill://s/C%23.m%64", "skill://s/%43%23.md", "skill://s/C%23.md?"):  # fmt: skip
            with pytest.raises(MCPError, match=r"not found|Unknown"):
                await client.read_resource(other)


async def test_another_spelling_is_recorded_as_refused_and_logged_once(
    guard, grants, library, recorded, caplog
):
    pdp, lines = recorded
    bearer = grants.token("*", "resources/read:*")
    grants.lay()
    served = await guard(None, library, pdp=pdp)
    uri = "skill://s/R%26D.m%64"
    async with served.client(bearer) as client:
        for _ in range(2):
            with pytest.raises(MCPError, match=r"not found|Unknown"):
                await client.read_resource(uri)
    reads = [line for line in lines() if line.get("action", {}).get("name") == uri]
    assert [(line["allow"], line["reason"]) for line in reads] == [(False, "tool_not_allowed")] * 2
    assert caplog.text.count("mcp_auth.misspelt") == 1
    assert await served.refusal("delete", bearer=None)


async def test_callers_without_a_bearer_learn_nothing_of_spellings(serve_plain, grants, library):
    grants.lay()
    served = await serve_plain(library)
    async with served.client() as client:
        for uri in ("skill://s/R%26D.md", "skill://s/R%26D.m%64", "data://nowhere/%2E"):
            with pytest.raises(MCPError, match="Authentication required"):
                await client.read_resource(uri)
