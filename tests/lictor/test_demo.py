"""What `make demo` shows."""

import json
import subprocess
import sys


def test_demo_allows_refuses_and_rotates_as_documented(opa_binary, monkeypatch):
    monkeypatch.setenv("LICTOR_OPA_BIN", str(opa_binary.path))
    done = subprocess.run(
        [sys.executable, "-m", "lictor", "demo", "--format=json"],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)

    calls = {(one["who"], one["tool"]): (one["allowed"], one["reason"]) for one in printed["calls"]}
    assert calls == {
        ("anonymous", "get_health"): (True, "ok"),
        ("anonymous", "search"): (False, "missing_token"),
        ("an opaque token", "search"): (True, "ok"),
        ("a team's JWT", "search"): (True, "ok"),
        ("a team without workspaces", "search"): (True, "ok"),
        ("a token without the tool", "search"): (False, "tool_not_allowed"),
        ("a disabled user's token", "search"): (False, "user_disabled"),
        ("a per-turn JWT", "search"): (False, "per_turn_retired"),
        ("a retired key's JWT", "search"): (False, "key_retired"),
        ("a forged JWT", "search"): (False, "invalid_token"),
    }
    libraries = {
        one["who"]: one["libraries"] for one in printed["calls"] if one["tool"] == "search"
    }
    assert libraries["a team's JWT"] == ["darwin", "poe", "shelley"]
    assert libraries["a team without workspaces"] == []
    rotation = printed["rotation"]
    assert rotation["allowed"] > 0
    assert rotation["refused"] > 0
    assert rotation["reason"] == "invalid_token"
    assert rotation["new"]["allowed"] is True
