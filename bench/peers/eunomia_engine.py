"""eunomia's engine in this process: `eunomia_engine.py SETTINGS`.

Its rules are few and know no caller by name, so the record of the caller is selected here, and its
attributes go along. It says yes or no, and nothing about libraries.
"""

import json
import os
import time
from pathlib import Path

from worker import run, settings

os.environ.setdefault("ENGINE_SQL_DATABASE", "false")

from eunomia.engine.engine import PolicyEngine
from eunomia_core import schemas

DATA = json.loads(Path(settings()["dataset"]).read_text())
_FIXED = [
    {"path": f"attributes.{name}", "operator": "equals", "value": value}
    for name, value in (("active", True), ("user_active", True), ("expired", False))
]


def rule(pattern, operator, name):
    """A grant is a part of the text that the principal's grants are joined to."""
    granted = {"path": "attributes.tools", "operator": "contains", "value": f"[{pattern}]x"}
    called = [{"path": "attributes.name", "operator": operator, "value": name}] if operator else []
    return {
        "name": f"grant {pattern.replace('*', 'all')}",
        "effect": "allow",
        "actions": ["execute"],
        "principal_conditions": [*_FIXED, granted],
        "resource_conditions": called,
    }


ENGINE = PolicyEngine()
ENGINE.add_policy(
    schemas.Policy.model_validate(
        {
            "name": "bench",
            "default_effect": "deny",
            "rules": [
                rule("search", "equals", "search"),
                rule("read_*", "startswith", "read_"),
                rule("*", None, ""),
            ],
        }
    )
)


def principal(case):
    claims = case["claims"]
    if claims is None:
        record = DATA["tokens"].get(case["digest"])
        user, current = record and record["user"], True
    else:
        record = DATA["teams"].get(claims["sub"].removeprefix("team:"))
        user = record and record["owner"]
        current = record and record["active_jti"] == claims["jti"]
    if record is None:
        return {"active": False}
    moment = record["expires_at"]
    return {
        "active": bool(record["active"] and current),
        "user_active": DATA["users"][user]["active"],
        "expired": moment is not None and moment <= time.time(),
        "tools": "".join(f"[{tool}]x" for tool in record["tools"]),
    }


def decide(case):
    request = schemas.CheckRequest(
        principal=schemas.PrincipalCheck(uri="caller", attributes=principal(case)),
        resource=schemas.ResourceCheck(uri="tool", attributes={"name": case["tool"]}),
        action="execute",
    )
    return ENGINE.evaluate_all(request).allowed, None


run(decide)
