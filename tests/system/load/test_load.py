"""The example server under a steady load and under overload, as `bench.soak` and `bench.load` run it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LEAKING = Path(__file__).with_name("leaking_server.py")


def run(module, *arguments):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )


def test_steady_load_does_not_make_the_processes_grow(short_path):
    result = short_path / "soak.json"
    done = run("bench.soak", "--minutes=1.5", f"--json={result}")
    assert done.returncode == 0, done.stdout + done.stderr
    soak = json.loads(result.read_text())
    assert soak["calls"]["ok"] > 500
    assert soak["wrong"] == 0
    assert {row["what"] for row in soak["rows"]} == {"memory, MB", "sockets", "tasks"}


def test_soak_notices_a_task_leaked_by_each_call(short_path):
    result = short_path / "soak.json"
    done = run("bench.soak", "--minutes=0.7", f"--server={LEAKING}", f"--json={result}")
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {(row["part"], row["what"]): row for row in json.loads(result.read_text())["rows"]}
    assert rows["server", "tasks"]["growth"] > 100
    assert rows["serve", "tasks"]["growth"] < rows["serve", "tasks"]["limit"]


def test_overload_serves_no_revoked_token_and_ends_with_the_load(short_path):
    result = short_path / "load.json"
    load = ("--cache", "off", "--rate=100", "--times", "5", "--seconds=6")
    done = run("bench.load", *load, "--json", result)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(result.read_text())
    assert set(row["outcomes"]) <= {"ok", "unavailable"}
    assert row["decided_ms_max"] < 1000
    assert row["wrong"] == 0
    assert row["revoked_calls"] > 10
    assert row["recovered_s"] <= 2
