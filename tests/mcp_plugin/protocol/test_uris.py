"""A resource from a template has one URI: what the template would make of the values found in it."""

import pytest
from fastmcp import FastMCP
from fastmcp.server.providers.skills import SkillProvider
from mcp import MCPError

pytestmark = [
    pytest.mark.anyio,
    # FastMCP 4.2 has another; this one has a template for a whole folder in every version.
    pytest.mark.filterwarnings("ignore:`SkillProvider` is deprecated"),
]

SHUT = """package site

deny contains {"action": a, "code": "shut", "message": "Shut."} if {
	some a in data.lictor.actions
	a.uri in {
		"data://shut", "q://q?name=shut", "q://q?name=two%20words", "f://files/a/shut.txt",
		"skill://s/sub/shut.txt", "data://a%2Cb",
	}
}
"""
# Of each pair FastMCP finds the same values in both.
OTHER_SPELLINGS = [
    ("data://shut", "data://shut?"),
    ("data://shut", "data://shut?x=1"),
    ("data://shut", "data://shut#f"),
    ("data://a%2Cb", "data://a,b"),
    ("q://q?name=shut", "q://q?name=shut&"),
    ("q://q?name=shut", "q://q?&name=shut"),
    ("q://q?name=shut", "q://q?x=1&name=shut"),
    ("q://q?name=shut", "q://q?name=shut&name=x"),
    ("q://q?name=two%20words", "q://q?name=two+words"),
    ("f://files/a/shut.txt", "f://files/a//shut.txt"),
    ("f://files/a/shut.txt", "f://files/a/shut.txt/"),
    ("f://files/a/shut.txt", "f://files/a/shut.txt?x"),
    ("skill://s/sub/shut.txt", "skill://s/sub//shut.txt"),
    ("skill://s/sub/shut.txt", "skill://s/sub/shut.txt/"),
    ("skill://s/sub/shut.txt", "skill://s/sub/shut.txt?x"),
]
GOOD = [
    "data://open", "data://a:b@c", "data://caf%C3%A9", "data://x%20y", "data://a%28b%29",
    "q://q", "q://q?name=open", "q://q?name=a%2Bb", "q://q?name=a=b",
    "f://files/a/b.txt", "f://files/b", "l://q?name=a&name=b", "l://q?name=a",
    "two://q?a=1&b=2", "two://q?b=2", "skill://s/sub/open.txt",
]  # fmt: skip


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "s"
    (folder / "sub").mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: s\ndescription: A skill.\n---\nRead.\n")
    for name in ("shut", "open"):
        (folder / "sub" / f"{name}.txt").write_text(name)
    mcp = FastMCP("library")
    mcp.add_provider(SkillProvider(folder))

    @mcp.resource("data://{name}", security=None)
    def shelf(name: str) -> str:
        return f"read {name}"

    @mcp.resource("f://files/{path*}", security=None)
    def file(path: str) -> str:
        return f"read {path}"

    @mcp.resource("q://q{?name}")
    def one(name: str = "") -> str:
        return f"read {name}"

    @mcp.resource("l://q{?name*}")
    def many(name: list[str] = []) -> str:  # noqa: B006
        return f"read {name}"

    @mcp.resource("two://q{?a,b}")
    def two(a: str = "", b: str = "") -> str:
        return f"read {a} {b}"

    return mcp


async def answers(served, uris, bearer=None):
    """The result for each, without FastMCP's client, which writes some of them in another way."""
    said = {}
    for uri in uris:
        answer = await served.raw("resources/read", {"uri": uri}, bearer=bearer)
        said[uri] = (
            answer.get("error", {}).get("message") or answer["result"]["contents"][0]["text"]
        )
    return said


STATELESS = {"json_response": True, "stateless_http": True}


async def test_uri_refused_by_a_rule_is_refused_in_every_spelling(
    serve_open, serve_plain, grants, library
):
    spellings = [other for _, other in OTHER_SPELLINGS]
    open_ = await answers(await serve_open(library, **STATELESS), spellings)
    assert all(text.startswith(("read", "shut")) for text in open_.values()), open_

    bearer = grants.token("*")
    grants.rules(SHUT)
    served = await serve_plain(library, http=STATELESS)
    said = await answers(served, [named for named, _ in OTHER_SPELLINGS], bearer)
    assert set(said.values()) == {"Shut."}
    for uri, text in (await answers(served, spellings, bearer)).items():
        assert text.startswith("Resource not found"), uri


async def test_uri_expansion_of_a_template_is_read(serve_open, serve_plain, grants, library):
    open_ = await answers(await serve_open(library, **STATELESS), GOOD)
    bearer = grants.token("*")
    grants.lay()
    served = await serve_plain(library, http=STATELESS)
    assert await answers(served, GOOD, bearer) == open_
    async with served.client(bearer) as client:
        assert (await client.read_resource("data://caf%C3%A9"))[0].text == "read café"
        with pytest.raises(MCPError, match="not found"):
            await client.read_resource("two://q?b=2&a=1")
