"""The library server, and the one without FastMCP, run as the README says."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from support.tiers import long_family
from support.waiting import until

from bundles.opa.server import client_token_file

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SERVERS = ROOT / "examples" / "library_server"


@pytest.fixture
async def bearers(deployment):
    """Ada reads two libraries with a token, her team another with a JWT."""
    await deployment.add_user("ada")
    for library in ("carroll", "poe", "shelley"):
        await deployment.add_library(library, "fiction")
    await deployment.add_library("darwin", "science")
    token = await deployment.create_token("ada", tools=["*"], libraries=["poe", "shelley"])
    _, jwt = await deployment.create_team("Beagle", owner="ada", workspaces=["science"])
    await deployment.settle()
    return token, jwt


def start(script, port, environment, log):
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, SERVERS / script, "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=output,
        )


@pytest.fixture(params=long_family(["server.py", "lowlevel.py"], quick=1))
async def connect(request, deployment, bearers, short_path):
    """Start the server; gives clients for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LICTOR_OPA_URL": deployment.opa.settings.address,
        "LICTOR_OPA_TOKEN_FILE": str(client_token_file(deployment.opa.settings.folder)),
        "LICTOR_TEAM_JWKS": str(deployment.settings.keys / "mnemosyne.public.jwks"),
        "LICTOR_RECORD": str(short_path / "decisions.jsonl"),
        "LICTOR_SHARED_URL": deployment.serving.url,
        "LICTOR_SHARED_KEY": str(deployment.settings.newest_key),
    }
    process = start(request.param, port, environment, short_path / "server.log")

    def client(bearer=None):
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        url = f"http://127.0.0.1:{port}/mcp"
        return Client(StreamableHttpTransport(url, headers=headers), mode="legacy")

    def listening():
        assert process.poll() is None, (short_path / "server.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        await until(listening, "the server listens")
        yield client
    finally:
        process.terminate()
        process.wait()


async def test_example_returns_each_callers_own_libraries(connect, bearers, short_path):
    token, jwt = bearers
    async with connect(token) as ada:
        libraries = (await ada.call_tool("list_libraries")).structured_content
        assert libraries == {
            "poe": ["the-raven", "the-tell-tale-heart"],
            "shelley": ["chapter-5", "letter-1"],
        }
        dreary = (await ada.call_tool("search", {"query": "dreary"})).structured_content["result"]
        assert {hit["document"] for hit in dreary} == {"the-raven", "chapter-5"}
        raven = {"library": "poe", "document": "the-raven"}
        assert "nothing more" in (await ada.call_tool("get_document", raven)).content[0].text
        for document in (
            {"library": "darwin", "document": "conclusion"},
            {"library": "poe", "document": "no-such"},
            {"library": "../../corpus/poe", "document": "the-raven"},
        ):
            result = await ada.call_tool("get_document", document, raise_on_error=False)
            assert result.content[0].text == "No such document."
    async with connect(jwt) as team:
        assert [*(await team.call_tool("list_libraries")).structured_content] == ["darwin"]
        assert (await team.call_tool("search", {"query": "dreary"})).structured_content == {
            "result": []
        }

    records = [
        json.loads(line) for line in (short_path / "decisions.jsonl").read_text().splitlines()
    ]
    assert {record["context"]["server"] for record in records} == {"library"}
    assert sum(record.get("action", {}).get("method") == "tools/call" for record in records) == 8


async def test_example_gives_anonymous_callers_only_health(connect):
    async with connect() as anonymous:
        assert (await anonymous.call_tool("get_health")).content[0].text == "ok"
        result = await anonymous.call_tool("list_libraries", raise_on_error=False)
    assert result.content[0].text == "Authentication required. Provide a Bearer token."
