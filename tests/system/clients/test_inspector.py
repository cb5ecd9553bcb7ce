"""The Inspector's CLI with a guarded server, over HTTP in either protocol era, and over stdio."""

import asyncio
import sys
from pathlib import Path

import pytest

from .conftest import GRANTED
from .inspector import AUTH_REQUIRED, TOOL_ERROR, Inspector, over_http
from .server import NAMES, RULES

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.anyio

both_eras = pytest.mark.parametrize("era", ["legacy", "modern"])


@pytest.fixture
async def inspect(packages):
    """Run several requests to one server, two at a time: each is a method and its flags."""
    inspector = Inspector(packages)

    async def inspect(server, *requests, **settings):
        return await asyncio.gather(
            *(inspector.run(*request, server=server, **settings) for request in requests)
        )

    return inspect


def call(tool, arguments="{}"):
    return "tools/call", "--tool-name", tool, "--tool-args-json", arguments


@both_eras
async def test_inspector_uses_what_its_caller_was_granted(inspect, serve, ada, era):
    server = over_http(await serve(), ada)
    listed, called, read, prompt = await inspect(
        server,
        ("tools/list",),
        call("list_books"),
        ("resources/read", "--uri", "data://open"),
        ("prompts/get", "--prompt-name", "ask", "--prompt-args", "topic=x"),
        era=era,
    )
    names = {tool["name"] for tool in listed.result["tools"]}
    assert names >= {"get_health", "list_books"}
    assert "delete_book" not in names
    assert (called.code, called.text) == (0, '["poe","shelley"]')
    assert read.result["contents"][0]["text"] == "open data"
    assert prompt.result["messages"][0]["content"]["text"] == "Tell me of x."


@both_eras
async def test_inspector_is_told_why_it_is_refused(inspect, serve, grants, era):
    bearer = grants.token(*GRANTED)
    grants.rules(RULES, arguments=True)
    by_rule, unlisted, read = await inspect(
        over_http(await serve(), bearer),
        call("report", '{"options": {"maxRows": 1000}}'),
        call("delete_book"),
        ("resources/read", "--uri", "data://closed"),
        era=era,
    )
    assert (by_rule.code, by_rule.text) == (TOOL_ERROR, "Too many rows.")
    assert by_rule.result["_meta"]["lictor/denial"]["rules"] == ["rows"]
    # It does not call what it does not see.
    assert (unlisted.code, unlisted.error) == (TOOL_ERROR, "tool_not_found")
    assert "resources/read:data://closed" in read.message


@both_eras
async def test_inspector_without_good_bearer_is_asked_to_authenticate(inspect, serve, grants, era):
    url = await serve()
    for server in (over_http(url), over_http(url, "unknown" * 6)):
        (refused,) = await inspect(server, call("list_books"), era=era)
        assert (refused.code, refused.error) == (AUTH_REQUIRED, "auth_required")
    (public,) = await inspect(over_http(url), call("get_health"), era=era)
    assert (public.code, public.text) == (0, "ok")


async def test_inspector_sets_the_log_level_with_and_without_bearer(inspect, serve, ada):
    url = await serve()
    request = ("logging/setLevel", "--log-level", "debug")
    for server in (over_http(url, ada), over_http(url)):
        (done,) = await inspect(server, request)
        assert (done.code, done.result) == (0, {})


async def test_inspector_answers_a_tool_that_asks_by_cancelling(inspect, serve, ada):
    (survey,) = await inspect(over_http(await serve(), ada), call("survey"))
    assert (survey.code, survey.text) == (0, "cancel")


async def test_inspector_reads_resources_with_unusual_names(inspect, serve, ada):
    server = over_http(await serve(), f"{ada}  ")
    (listed,) = await inspect(server, ("resources/list",))
    uris = {one["name"]: one["uri"] for one in listed.result["resources"]}
    wanted = NAMES[:3]
    found = await inspect(server, *(("resources/read", "--uri", uris[name]) for name in wanted))
    texts = [one.result["contents"][0]["text"] for one in found]
    assert texts == [f"text of {name}" for name in wanted]


async def test_inspector_over_stdio_is_the_operators_caller(
    inspect, ada, plain_opa, plain_pdp, tmp_path
):
    bearer = tmp_path / "bearer"
    bearer.touch(0o600)
    bearer.write_text(f"{ada}\n")
    server = {
        "type": "stdio",
        "command": sys.executable,
        "args": [str(Path(__file__).with_name("stdio_server.py"))],
        "env": {"OPA_URL": plain_opa.unix_url, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    }
    known = {**server, "env": {**server["env"], "BEARER_FILE": str(bearer)}}
    (allowed,), (modern,), (anonymous,) = await asyncio.gather(
        inspect(known, call("list_books")),
        inspect(known, call("list_books"), era="modern"),
        inspect(server, call("list_books")),
    )
    assert (allowed.code, allowed.text) == (0, '["poe","shelley"]')
    assert (modern.code, modern.text) == (0, '["poe","shelley"]')
    assert anonymous.code == TOOL_ERROR
    assert anonymous.result["_meta"]["lictor/denial"]["reason"] == "missing_token"
    bearer.unlink()
