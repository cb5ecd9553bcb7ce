"""A peer's process: its outcomes, its times, its errors, and the pins of its environment."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.cases import TIMED, Outcome
from bench.decisions import Contest
from bench.floors import UnavailableError
from bench.peers import processes

PEERS = Path(__file__).parents[2] / "bench" / "peers"
SCRIPT = """
from worker import run

def decide(case):
    print("noise")
    if case["name"] == "broken":
        raise RuntimeError("no such\\nrecord")
    return case["name"] == "allowed", ["a"]

run(decide)
"""


@asynccontextmanager
async def peer(tmp_path, *names):
    script, given = tmp_path / "peer.py", tmp_path / "given.json"
    script.write_text(SCRIPT)
    given.write_text(json.dumps({"cases": [{"name": name} for name in names]}))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(given),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PEERS)},
    )  # fmt: skip
    try:
        yield processes.Peer(process)
    finally:
        process.stdin.close()
        await process.wait()


def test_peer_answers_all_questions_and_times_one(tmp_path):
    async def run():
        async with peer(tmp_path, "allowed", "denied") as one:
            assert await one.outcomes() == [Outcome(True, ["a"]), Outcome(False, ["a"])]
            taken = await one.batch("allowed")(5)
            assert len(taken) == 5
            assert min(taken) > 0
            assert await one.request(do="load", case="allowed", threads=2, seconds=0.1) > 2

    asyncio.run(run())


@pytest.mark.parametrize("name", ["broken", "denied"])
def test_peer_that_fails_or_denies_what_is_timed_is_unavailable(tmp_path, name):
    async def run():
        async with peer(tmp_path, name) as one:
            with pytest.raises(UnavailableError, match=r"no such record|AssertionError"):
                await one.batch(name)(1)

    asyncio.run(run())


class NoRedis:
    redis_url = ""


class BenchStub:
    made = NoRedis()
    cases = dict.fromkeys(TIMED)


def test_contestant_that_answers_otherwise_is_left_out():
    contest = Contest(BenchStub(), None)
    contest._expected = {kind: Outcome(True, ["a"]) for kind in TIMED}
    assert contest._agrees("same", [Outcome(True, ["a"]), Outcome(True, None)])
    assert not contest._agrees("other", [Outcome(True, ["a"]), Outcome(False, [])])
    assert contest.missing == {"other": "decides otherwise: team: denied"}


def test_environment_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_HERE", tmp_path)
    (tmp_path / "pinned").mkdir()
    (tmp_path / "pinned" / "x.txt").write_text("lictor-no-such-package==1 --hash=sha256:00\n")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(UnavailableError, match="uv: "):
        processes.environment("x", {"XDG_CACHE_HOME": str(tmp_path)})


@pytest.mark.parametrize("path", sorted(PEERS.glob("pinned/*.txt")), ids=lambda path: path.stem)
def test_pins_have_hashes_and_no_index(path):
    lines = path.read_text().splitlines()
    named = [n for n, line in enumerate(lines) if "==" in line]
    assert named
    assert all("--hash=" in lines[n + 1] for n in named)
    assert not [line for line in lines if line.startswith("-") or "://" in line]
