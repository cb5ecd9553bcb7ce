"""The side of a peer's process: answers questions and times itself, as it is told line by line.

For scripts in environments of their own, so nothing but the standard library. The first argument is
a JSON file with the questions and whatever the peer needs.
"""

import json
import sys
import threading
import time
from pathlib import Path


def settings():
    return json.loads(Path(sys.argv[1]).read_text())


def run(decide):
    """Do what standard input says until it ends.

    Args:
        decide: returns whether a question (a dict) is allowed, and the libraries or None.
    """
    asked = {one["name"]: one for one in settings()["questions"]}
    # What a library prints must not be taken for a reply.
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        told = json.loads(line)
        try:
            reply = {"result": _do(told, decide, asked)}
        except Exception as error:  # noqa: BLE001 - the parent prints it and leaves the row out
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def _do(told, decide, asked):
    if told["do"] == "answer":
        return [list(decide(one)) for one in asked.values()]
    question = asked[told["question"]]
    if told["do"] == "load":
        return _load(decide, question, told["threads"], told["seconds"])
    taken = []
    for _ in range(told["n"]):
        began = time.perf_counter_ns()
        allow, _libraries = decide(question)
        taken.append((time.perf_counter_ns() - began) / 1000)
        assert allow
    return taken


def _load(decide, question, threads, seconds):
    """How many decisions so many threads make at once."""
    counts = [0] * threads
    ends = time.monotonic() + seconds

    def loop(n):
        while time.monotonic() < ends:
            allow, _libraries = decide(question)
            assert allow
            counts[n] += 1

    running = [threading.Thread(target=loop, args=(n,)) for n in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    return sum(counts)
