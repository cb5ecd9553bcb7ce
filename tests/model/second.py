"""The same questions to a second Rego engine, regopy (rego-cpp), where it is installed.

`python -m tests.model.second < WORLD` answers the questions of one world, in a process of its own: an
engine that crashes or never ends must not end the fuzzer. It is asked by its own clock, since with
another one it is slower by orders of magnitude (`with time.now_ns as`), or crashes.
"""

import importlib.util
import json
import random
import subprocess
import sys
import time
from collections import Counter

from tests.support.plain import ROOT

from .asking import REGO, expected, later, published
from .worlds import NANO, NOW, question, world

QUESTIONS = 5
PATIENCE = 60
"""Seconds for the questions of one world."""


def installed():
    """Whether there is a second engine."""
    return importlib.util.find_spec("regopy") is not None


def compared(questions, seed):
    """So many questions: a counter of `agree`, `differ`, `crashed` and `too slow`, and what differs."""
    chance, counts, found = random.Random(seed), Counter(), []
    while counts.total() < questions:
        laid = published(world(chance))
        asked = [question(chance) for _ in range(QUESTIONS)]
        wanted = [expected(laid, query) for query in asked]
        if wanted != [expected(laid, query, NOW + PATIENCE // 6 * NANO) for query in asked]:
            continue  # at an edge of time, which the engine's own clock will not meet
        shifted = later(laid, (time.time_ns() - NOW) // NANO)
        for query, want in zip(asked, wanted, strict=True):
            kind, said = _asked(shifted, query)
            kind = kind or ("agree" if said == want else "differ")
            counts[kind] += 1
            if kind == "differ":
                found.append({"world": laid, "question": query, "model": want, "regopy": said})
    return counts, found


def _asked(laid, query):
    text = json.dumps({"world": laid, "question": query})
    command = [sys.executable, "-m", "tests.model.second"]
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=ROOT,
        )
    except subprocess.TimeoutExpired:
        return "too slow", None
    return ("crashed", None) if done.returncode else (None, json.loads(done.stdout))


def _answer(laid, query):
    from regopy import Interpreter

    engine = Interpreter()
    for path in [*(ROOT / "policies" / "lictor").rglob("*.rego"), *(REGO / "site").glob("*.rego")]:
        if not path.name.endswith("_test.rego"):
            engine.add_module(str(path), path.read_text())
    engine.add_data(laid)
    engine.set_input(query)
    rule, names = ("visible", ("indices", "reason")) if "actions" in query else ("decision", ("allow", "reason", "libraries"))  # fmt: skip
    said = json.loads(str(engine.query(f"data.lictor.{rule}")))["expressions"][0]
    return {name: said[name] for name in names}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    print(json.dumps(_answer(given["world"], given["question"])))
