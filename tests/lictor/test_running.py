"""`lictor serve`, `opa` and `decide` as real processes, from nothing to a revocation."""

import signal

import pytest


@pytest.fixture
def run(lictor_processes):
    return lictor_processes()


@pytest.mark.system
def test_deployment_from_init_to_revocation_survives_outages(run):
    run.json("init")
    run.json("user", "add", "ada")
    run.json("workspace", "add", "w")
    run.json("library", "add", "lib-a", "--workspace=w")
    token = run.json("token", "create", "--user=ada", "--library=lib-a", "--tool=search")
    team = run.json("team", "create", "Docs", "--owner=ada", "--workspace=w")

    code, decision = run.decide(token["token"])
    assert (code, decision["reason"]) == (1, "unavailable")

    run.start("serve")
    run.start("opa")
    run.until(lambda: run.decide(token["token"])[0] == 0, "the first allow")

    code, decision = run.decide(token["token"] + "\n")
    assert (code, decision["allow"], decision["libraries"]) == (0, True, ["lib-a"])
    assert run.decide(token["token"], tool="delete")[0] == 3
    assert run.decide("")[0] == 4
    assert run.decide("x\ny")[1]["reason"] == "invalid_token"
    assert run.decide(team["jwt"])[1]["libraries"] == ["lib-a"]

    rotated = run.json("team", "rotate", team["id"])
    assert run.decide(team["jwt"])[1]["reason"] == "invalid_token"
    assert run.decide(rotated["jwt"])[0] == 0

    run.json("token", "revoke", token["id"])
    code, decision = run.decide(token["token"])
    assert (code, decision["reason"]) == (4, "token_deactivated")

    # The publisher is killed: a write stands, and its command reports that it is not published.
    run.stop("serve", signal.SIGKILL)
    done = run.run("team", "deactivate", team["id"], "--format=json")
    assert done.returncode == 1
    assert "not published" in done.stderr
    run.start("serve")
    run.until(lambda: run.decide(rotated["jwt"])[1]["reason"] == "team_inactive", "the write")

    for name in ("opa", "serve"):
        second = run.run(name)
        assert second.returncode == 1, name
        assert "already" in second.stderr
    assert run.run("user", "list").returncode == 0

    run.stop("opa", signal.SIGKILL)
    assert run.decide(rotated["jwt"])[1]["reason"] == "unavailable"
    run.start("opa")
    run.until(lambda: run.decide(rotated["jwt"])[1]["reason"] == "team_inactive", "OPA's return")

    assert run.stop("serve") == 0
    written = [
        path
        for path in run.folder.rglob("*")
        if path.is_file() and token["token"].encode() in path.read_bytes()
    ]
    assert written == []
