"""Cedar in this process, on the same records: `cedar_engine.py SETTINGS`.

Cedar looks nothing up, so the records of a caller are selected here and go along as entities. With
`libraries` there is one request for each library that the caller's record leads to, in one batch.
"""

import json
import time
from pathlib import Path

import cedarpy
from worker import run, settings

# Cedar's `like` takes patterns from policies alone, so each pattern of the registry is a policy.
_CALL = """
permit(principal, action == Action::"call", resource)
when {{ principal.granted && principal.tools.contains("{0}") && context.tool like "{0}" }};
"""
_POLICIES = (
    "".join(_CALL.format(one) for one in ("*", "search", "read_*"))
    + """
forbid(principal, action, resource)
when { principal has expires_at && principal.expires_at <= context.now };
permit(principal is Token, action == Action::"touch", resource)
when { principal.granted && principal.libraries.contains(resource) };
permit(principal is Team, action == Action::"touch", resource)
when { principal.granted && resource in principal.workspaces };
"""
)

GIVEN = settings()
DATA = json.loads(Path(GIVEN["dataset"]).read_text())
LIBRARIES = GIVEN["libraries"]
POLICIES = cedarpy.PolicySet.from_str(_POLICIES)
SERVER = 'Server::"bench"'


def entity(type_, id_):
    return {"type": type_, "id": id_}


def reference(type_, id_):
    return {"__entity": entity(type_, id_)}


def caller(case):
    """The caller's entity, and its libraries with their workspaces."""
    if case["claims"] is None:
        record = DATA["tokens"].get(case["digest"])
        if record is None:
            return None, {}
        attributes = {
            "granted": record["active"] and DATA["users"][record["user"]]["active"],
            "tools": record["tools"],
            "libraries": [reference("Library", one) for one in record["libraries"]],
        }
        if record["expires_at"] is not None:
            attributes["expires_at"] = record["expires_at"]
        return (
            {"uid": entity("Token", case["digest"]), "attrs": attributes, "parents": []},
            dict.fromkeys(record["libraries"]),
        )
    claims = case["claims"]
    record = DATA["teams"].get(claims["sub"].removeprefix("team:"))
    granted = (
        record["active"]
        and DATA["users"][record["owner"]]["active"]
        and DATA["keys"][case["kid"]]["active"]
        and record["active_jti"] == claims["jti"]
    )
    attributes = {
        "granted": granted,
        "tools": record["tools"],
        "workspaces": [reference("Workspace", one) for one in record["workspaces"]],
    }
    return (
        {"uid": entity("Team", record["id"]), "attrs": attributes, "parents": []},
        {
            library: workspace
            for workspace in record["workspaces"]
            for library in DATA["workspaces"][workspace]["libraries"]
        },
    )


def decide(case):
    one, libraries = caller(case)
    if one is None:
        return False, [] if LIBRARIES else None
    uid = f'{one["uid"]["type"]}::"{one["uid"]["id"]}"'
    context = {"tool": case["tool"], "now": int(time.time())}
    call = {
        "principal": uid, "action": 'Action::"call"', "resource": SERVER, "context": context
    }  # fmt: skip
    if not LIBRARIES:
        return cedarpy.is_authorized(call, POLICIES, [one]).allowed, None
    entities = [one] + [
        {
            "uid": entity("Library", library),
            "attrs": {},
            "parents": [entity("Workspace", workspace)] if workspace else [],
        }
        for library, workspace in libraries.items()
    ]
    touch = [
        {**call, "action": 'Action::"touch"', "resource": f'Library::"{library}"'}
        for library in libraries
    ]
    first, *rest = cedarpy.is_authorized_batch([call, *touch], POLICIES, entities)
    allow = first.allowed
    return allow, [
        library for library, found in zip(libraries, rest, strict=True) if allow and found.allowed
    ]


run(decide)
