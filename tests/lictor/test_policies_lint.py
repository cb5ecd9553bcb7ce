"""`lictor policies lint`, against a real FastMCP server over HTTP and files of tools."""

import json
import socket
import threading
from contextlib import contextmanager

import pytest
import uvicorn
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

from lictor.cli import run
from lictor.lint import METHODS

RULES = """package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	"wirte" in action.tags
}

deny contains {"action": {"name": "put_nte", "method": "tools/cal"}, "code": "c", "message": "m"}

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	glob.match("get_[0-9]*", null, action.name)
	regex.match("^put_x", action.name)
}

hidden contains "pö"

hidden contains uid if {
	some uid in data.lictor.granted_libraries
	"daft" in data.lictor.library(uid).tags
}
"""
SOUND = """package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	"write" in action.tags
	startswith(action.name, "put_")
	glob.match("put_*", null, action.name)
	regex.match("^put_", action.name)
	action.method == "tools/call"
	not action.name in {"ask", "data://open"}
}

hidden contains "poe"
"""


def books():
    mcp = FastMCP("books", auth=StaticTokenVerifier({"sesame": {"client_id": "c", "scopes": []}}))
    mcp.tool(name="put_note", tags={"write"})(lambda: "")
    mcp.tool(name="get_note", tags={"read"})(lambda: "")
    mcp.prompt(name="ask")(lambda: "")
    mcp.resource("data://open")(lambda: "")
    return mcp


@contextmanager
def listening(mcp):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        started = threading.Event()
        config = uvicorn.Config(mcp.http_app(), log_level="warning", ws="none")

        class Server(uvicorn.Server):
            async def startup(self, sockets=None):
                await super().startup(sockets)
                started.set()

        server = Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert started.wait(60)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def server():
    with listening(books()) as url:
        yield url


@pytest.fixture
def lint(settings, tmp_path, capsys):
    """Lint a text of rules; returns the exit code and what was printed."""
    bearer = tmp_path / "bearer"
    bearer.write_text("sesame\n")

    def lint(rules, *flags, state=settings.state):
        folder = tmp_path / "rules"
        folder.mkdir(exist_ok=True)
        (folder / "rules.rego").write_text(rules)
        flags = [f.replace("BEARER", str(bearer)) for f in flags]
        capsys.readouterr()
        code = run(["policies", "lint", f"--site={folder}", f"--state={state}", *flags])
        return code, *capsys.readouterr()

    return lint


@pytest.fixture
def registry(settings, capsys):
    def do(*arguments):
        # What revokes exits with 1, as nothing publishes it here.
        assert run([*arguments, f"--state={settings.state}", "--format=json"]) in {0, 1}
        return json.loads(capsys.readouterr().out)

    do("user", "add", "ada")
    do("workspace", "add", "books")
    do("library", "add", "poe", "--workspace", "books", "--tag", "draft")
    return do


def parse_findings(out):
    return {(f["kind"], f["where"], f["name"]): f["suggestion"] for f in json.loads(out)}


def test_lint_unknown_names_are_reported_with_near_matches(lint, registry, server):
    registry("team", "create", "Docs", "--owner", "ada")
    code, out, _ = lint(RULES, "--server", server, "--bearer-file", "BEARER", "--format", "json")
    assert code == 1
    assert parse_findings(out) == {
        ("tag", "rules.rego:5", "wirte"): "write",
        ("tool", "rules.rego:8", "put_nte"): "put_note",
        ("method", "rules.rego:8", "tools/cal"): "tools/call",
        ("tool", "rules.rego:12", "get_[0-9]*"): None,
        ("tool", "rules.rego:13", "^put_x"): None,
        ("library", "rules.rego:16", "pö"): None,
        ("library tag", "rules.rego:20", "daft"): "draft",
    }


def test_lint_known_names_report_nothing(lint, registry, server):
    registry("team", "create", "Docs", "--owner", "ada")
    code, out, err = lint(SOUND, "--server", server, "--bearer-file", "BEARER")
    assert (code, out) == (0, "")
    assert "nothing found" in err


def test_grants_and_tools_that_do_not_meet_are_found(lint, registry, server):
    registry(
        "team", "create", "Docs", "--owner", "ada", "--tool", "put_*", "--tool", "prompts/get:nope"
    )
    idle = registry("team", "create", "Idle", "--owner", "ada", "--tool", "get_note")
    registry("team", "deactivate", idle["id"])
    registry(
        "token",
        "create",
        "--user",
        "ada",
        "--tool",
        "get_notes",
        "--tool",
        "resources/read:data://*",
    )
    registry("user", "add", "bob")
    registry("token", "create", "--user", "bob", "--tool", "*")
    registry("user", "disable", "bob")
    code, out, _ = lint(SOUND, "--server", server, "--bearer-file", "BEARER", "--format", "json")
    assert code == 1
    (of_token,) = [where for kind, where, name in parse_findings(out) if name == "get_notes"]
    assert of_token.startswith("token lct_…")
    assert parse_findings(out) == {
        ("grant", of_token, "get_notes"): "get_note",
        ("grant", "team Docs", "prompts/get:nope"): None,
        ("unreached", None, "get_note"): None,
    }


def test_file_of_tools_judges_tools_alone(lint, registry, tmp_path):
    registry("token", "create", "--user", "ada", "--tool", "put_note", "--tool", "prompts/get:nope")
    tools = tmp_path / "tools.json"
    tools.write_text('{"tools": [{"name": "put_note", "_meta": {"fastmcp": {"tags": ["write"]}}}]}')
    rules = 'package site\n\np if { some a in data.lictor.actions; "write" in a.tags; a.name == "put_note" }\n'
    assert lint(rules, "--tools", str(tools))[0] == 0


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "put_note", "tags": ["write"]}]',
        '[{"name": "put_note", "tags": ["write"], "annotations": {"readOnlyHint": true}}]',
        '{"tools": [{"name": "put_note", "_meta": {"_fastmcp": {"tags": ["write"]}}}]}',
        '{"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "put_note", "_meta": {"fastmcp": {"tags": ["write"]}}}]}}',
    ],
)
def test_file_may_have_any_of_these_shapes(text, lint, tmp_path):
    (tmp_path / "tools.json").write_text(text)
    rules = 'package site\n\np if { some a in data.lictor.actions; "write" in a.tags; a.name == "put_note" }\n'
    assert lint(rules, "--tools", str(tmp_path / "tools.json"), state=tmp_path / "none")[0] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "{}",
        "null",
        '[{"tags": []}]',
        "[7]",
        '[{"name": 7}]',
        "[" * 100_000,
        '{"tools": {"name": "x"}}',
        "\ud800",
    ],
)
def test_lint_file_of_another_shape_is_one_line_and_exit_2(text, lint, tmp_path):
    (tmp_path / "tools.json").write_text(text, errors="surrogatepass")
    code, out, err = lint(SOUND, "--tools", str(tmp_path / "tools.json"))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "Give the JSON of tools/list" in err


def test_without_a_registry_the_rules_are_checked_alone(lint, tmp_path):
    (tmp_path / "tools.json").write_text('[{"name": "put_note", "tags": ["write"]}]')
    rules = (
        'package site\n\nhidden contains "nope"\n\np if data.lictor.actions[_].name == "putnote"\n'
    )
    code, out, err = lint(
        rules, "--tools", str(tmp_path / "tools.json"), "--format=json", state=tmp_path / "none"
    )
    assert code == 1
    assert list(parse_findings(out)) == [("tool", "rules.rego:5", "putnote")]
    assert "no registry" in err


def test_control_characters_are_escaped(lint, tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps([{"name": "put_\x1b[31mnote"}]))
    rules = 'package site\n\np if data.lictor.actions[_].name == "put_\\u001b[31mnotes"\n'
    code, out, err = lint(rules, "--tools", str(tmp_path / "tools.json"))
    assert code == 1
    assert "\x1b" not in out + err
    assert "put_\\x1b[31mnotes" in out
    assert "put_\\x1b[31mnote " in out


def test_lint_refusing_server_is_one_line_without_the_bearer(lint, server, tmp_path):
    (tmp_path / "other").write_text("open-sesame-9\n")
    code, out, err = lint(SOUND, "--server", server, "--bearer-file", str(tmp_path / "other"))
    assert (code, out) == (1, "")
    assert "cannot be listed" in err
    assert "open-sesame-9" not in err
    assert "Traceback" not in err
    assert sum(line.startswith("lictor: ") for line in err.splitlines()) == 1


def test_lint_unreachable_server_is_one_line(lint):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code, _, err = lint(SOUND, "--server", f"http://user:pass-7@127.0.0.1:{port}/mcp")
    assert code == 1
    assert f"http://127.0.0.1:{port}/mcp" in err
    assert "pass-7" not in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--server", "http://h/mcp", "--tools", "x.json"),
        ("--server", "file:///etc/passwd"),
        ("--server", "server.py"),
        ("--server", "http://[h"),
        ("--server", "http://h:x/"),
        ("--tools", "none.json"),
    ],
)
def test_flags_that_name_no_server_are_refused(flags, lint):
    assert lint(SOUND, *flags)[0] == 2


def test_lint_rule_that_is_not_rego_is_one_error(lint, tmp_path):
    (tmp_path / "tools.json").write_text("[]")
    code, _, err = lint("package site\n\np if {\n", "--tools", str(tmp_path / "tools.json"))
    assert code == 1
    assert "rules.rego" in err
    assert "Traceback" not in err


def test_methods_of_grants_are_those_of_the_rules(opa_binary):
    from bundles.build.policies import product_folder

    said = opa_binary.run(
        "eval", "--format=json", "--ignore=*_test.rego", f"--data={product_folder() / 'lictor'}",
        "data.lictor._qualified_methods",
    )  # fmt: skip
    assert set(json.loads(said)["result"][0]["expressions"][0]["value"]) == METHODS
