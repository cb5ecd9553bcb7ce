"""The side of a peer's process: outcomes cases and times itself, as it is command line by line.

For scripts in environments of their own, so nothing but the standard library. The first argument is
a JSON file with the cases and whatever the peer needs.
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
        decide: returns whether a case (a dict) is allowed, and the libraries or None.
    """
    asked = {one["name"]: one for one in settings()["cases"]}
    # What a library prints must not be taken for a reply.
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = {"result": _do(command, decide, asked)}
        except Exception as error:  # noqa: BLE001 - the parent prints it and leaves the row out
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def _do(command, decide, asked):
    if command["do"] == "outcome":
        return [list(decide(one)) for one in asked.values()]
    case = asked[command["case"]]
    if command["do"] == "load":
        return _load(decide, case, command["threads"], command["seconds"])
    taken = []
    for _ in range(command["n"]):
        began = time.perf_counter_ns()
        allow, _libraries = decide(case)
        taken.append((time.perf_counter_ns() - began) / 1000)
        assert allow
    return taken


def _load(decide, case, threads, seconds):
    """How many decisions so many threads make at once."""
    counts = [0] * threads
    ends = time.monotonic() + seconds

    def loop(n):
        while time.monotonic() < ends:
            allow, _libraries = decide(case)
            assert allow
            counts[n] += 1

    running = [threading.Thread(target=loop, args=(n,)) for n in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    return sum(counts)
