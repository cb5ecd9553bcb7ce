"""The same cases on the same data for everything that decides, and what the outcomes must be.

The data is the generated registry's, with a few records changed, so that there is a refusal of each
kind. What decides in another process reads it from a file.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

import jwt

TIMED = ("token", "team")
"""The cases that are timed; both are allowed."""

TOOL = "search"
_OTHER_JTI = "jti-of-another"
_PAST = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """A credential and a tool. `claims` and `kid` are those of a verified JWT."""

    name: str
    bearer: str
    tool: str
    digest: str | None = None
    claims: Mapping[str, object] | None = None
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether it is allowed, and the libraries, which not everything determines (None)."""

    allow: bool
    libraries: Sequence[str] | None


def change_records(path, generated):
    """Change the records that refusals are about, before anything is published."""
    with closing(sqlite3.connect(path)) as db:
        digest = generated.digest
        db.execute("UPDATE tokens SET active = 0 WHERE digest = ?", [digest(11)])
        db.execute("UPDATE tokens SET expires_at = ? WHERE digest = ?", [_PAST, digest(13)])
        db.execute("UPDATE users SET active = 0 WHERE id IN ('u-12', 'u-23')")
        db.execute("UPDATE teams SET active = 0 WHERE id = ?", [generated.team_id(2)])
        db.commit()


def cases_of(generated, mint_team):
    """All cases, by name.

    Args:
        generated: the registry.
        mint_team: makes a JWT of a team and a `jti`.
    """

    def token(name, n, tool=TOOL):
        return Case(name, generated.bearer(n), tool, digest=generated.digest(n))

    def team(name, n, jti=None):
        bearer = mint_team(generated.team_id(n), jti or f"jti-{n}")
        claims = jwt.decode(bearer, options={"verify_signature": False})
        return Case(name, bearer, TOOL, claims=claims, kid=jwt.get_unverified_header(bearer)["kid"])

    return {
        one.name: one
        for one in (
            token("token", 1),
            team("team", 1),
            token("a pattern grants the tool", 14, "read_page"),
            token("the tool is not granted", 1, "write_page"),
            token("a revoked token", 11),
            token("an expired token", 13),
            token("a token of a disabled user", 12),
            token("an unknown token", generated.tokens + 1),
            team("an inactive team", 2),
            team("a team of a disabled user", 23),
            team("a replaced JWT", 4, _OTHER_JTI),
        )
    }


def write_dataset(path, generated, database, kids):
    """Write the registry's records as JSON, as the publisher joins them."""
    data = {kind: {} for kind in ("users", "workspaces", "teams", "tokens")}
    for kind, rows in generated.rows().items():
        for row in rows:
            if kind == "libraries":
                data["workspaces"][row["workspace_id"]].setdefault("libraries", []).append(
                    row["uid"]
                )
            else:
                key = "digest" if kind == "tokens" else "id"
                data[kind][row[key]] = {**row, "active": True, "expires_at": None}
    with closing(sqlite3.connect(database)) as db:
        for kind, key in (("users", "id"), ("teams", "id"), ("tokens", "digest")):
            for (id_,) in db.execute(f"SELECT {key} FROM {kind} WHERE active = 0"):
                data[kind][id_]["active"] = False
        for digest, moment in db.execute(
            "SELECT digest, expires_at FROM tokens WHERE expires_at IS NOT NULL"
        ):
            data["tokens"][digest]["expires_at"] = moment
    data["keys"] = {kid: {"active": True} for kid in kids}
    path.write_text(json.dumps(data))


def as_json(cases):
    return [asdict(one) for one in cases.values()]


def differences(cases, expected, outcomes):
    """What a contestant decides otherwise, in words; empty if nothing.

    Args:
        cases: the cases by name.
        expected: lictor's outcomes, by name.
        outcomes: the contestant's, in the cases' order.
    """
    found = []
    for (name, _), outcome in zip(cases.items(), outcomes, strict=True):
        right = expected[name]
        if outcome.allow != right.allow:
            found.append(f"{name}: {'allowed' if outcome.allow else 'denied'}")
        elif outcome.libraries is not None and sorted(outcome.libraries) != sorted(right.libraries):
            found.append(f"{name}: {len(outcome.libraries)} libraries, not {len(right.libraries)}")
    return "; ".join(found)
