"""casbin in this process, on the same grants: `casbin_engine.py SETTINGS`.

Its policy is one line for each grant. Whatever is revoked, disabled or expired has no line: the
program that keeps the lines has to know. It says yes or no, and nothing about libraries.
"""

import json
import time
from pathlib import Path

import casbin
from casbin.model.model_fast import FastModel
from worker import run, settings

_MODEL = """
[request_definition]
r = sub, obj
[policy_definition]
p = sub, obj
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && keyMatch(r.obj, p.obj)
"""

GIVEN = settings()


def lines():
    data = json.loads(Path(GIVEN["dataset"]).read_text())
    users, now = data["users"], time.time()
    for digest, one in data["tokens"].items():
        current = one["expires_at"] is None or one["expires_at"] > now
        if one["active"] and current and users[one["user"]]["active"]:
            yield from ([digest, tool] for tool in one["tools"])
    for one in data["teams"].values():
        if one["active"] and users[one["owner"]]["active"]:
            yield from ([one["active_jti"] + one["id"], tool] for tool in one["tools"])


def enforcer():
    # The fast one looks only at the lines of the caller.
    model = FastModel([0]) if GIVEN["fast"] else casbin.Model()
    model.load_model_from_text(_MODEL)
    if GIVEN["fast"]:
        return casbin.FastEnforcer(model, cache_key_order=[0])
    return casbin.Enforcer(model)


ENFORCER = enforcer()
ENFORCER.add_policies([list(line) for line in sorted({tuple(line) for line in lines()})])


def decide(case):
    claims = case["claims"]
    subject = case["digest"] or claims["jti"] + claims["sub"].removeprefix("team:")
    return ENFORCER.enforce(subject, case["tool"]), None


run(decide)
