"""The way that lictor replaced: each decision reads SQL through Django's ORM, and a graph.

Reconstructed from its description, with an index wherever a query can use one. It verifies the
bearer itself, each time, as it did.
"""

import json
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

import django
import jwt
from django.conf import settings as django_settings
from worker import run, settings

GIVEN = settings()
_OPTIONS = {"timeout": 20, "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"}
django_settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3", "NAME": GIVEN["database"],
            "OPTIONS": _OPTIONS, "CONN_MAX_AGE": None,
        }
    },
    USE_TZ=True,
)  # fmt: skip
django.setup()

from django.db import connection, models  # noqa: E402
from django.utils import timezone  # noqa: E402
from neo4j import GraphDatabase  # noqa: E402


class User(models.Model):
    id = models.CharField(primary_key=True, max_length=64)
    active = models.BooleanField()

    class Meta:
        app_label = "legacy"


class MCPSigningKey(models.Model):
    kid = models.CharField(primary_key=True, max_length=64)
    jwk = models.JSONField()
    active = models.BooleanField()

    class Meta:
        app_label = "legacy"


class Workspace(models.Model):
    id = models.CharField(primary_key=True, max_length=64)

    class Meta:
        app_label = "legacy"


class MCPToken(models.Model):
    token_hash = models.CharField(unique=True, max_length=64)
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    active = models.BooleanField()
    expires_at = models.DateTimeField(null=True)
    tools = models.JSONField()
    libraries = models.JSONField()

    class Meta:
        app_label = "legacy"


class Team(models.Model):
    id = models.CharField(primary_key=True, max_length=64)
    owner = models.ForeignKey(User, on_delete=models.CASCADE)
    active = models.BooleanField()
    active_jti = models.CharField(max_length=64)
    tools = models.JSONField()
    workspaces = models.ManyToManyField(Workspace)

    class Meta:
        app_label = "legacy"


DRIVER = GraphDatabase.driver(GIVEN["neo4j"])
_OF_UIDS = "MATCH (l:Library) WHERE l.uid IN $ids RETURN l.uid AS uid"
_OF_WORKSPACES = "MATCH (l:Library) WHERE l.workspace_id IN $ids RETURN l.uid AS uid"


def fill(data):
    with connection.schema_editor() as editor:
        for model in (User, MCPSigningKey, Workspace, MCPToken, Team):
            editor.create_model(model)
    User.objects.bulk_create(User(id=k, active=v["active"]) for k, v in data["users"].items())
    MCPSigningKey.objects.bulk_create(
        MCPSigningKey(kid=one["kid"], jwk=one, active=True) for one in GIVEN["jwks"]["keys"]
    )
    Workspace.objects.bulk_create(Workspace(id=one) for one in data["workspaces"])
    MCPToken.objects.bulk_create(
        MCPToken(
            token_hash=digest, user_id=one["user"], active=one["active"], tools=one["tools"],
            libraries=one["libraries"],
            expires_at=_moment(one["expires_at"]),
        )
        for digest, one in data["tokens"].items()
    )  # fmt: skip
    names = ("id", "active", "active_jti", "tools")
    Team.objects.bulk_create(
        Team(owner_id=one["owner"], **{name: one[name] for name in names})
        for one in data["teams"].values()
    )
    link = Team.workspaces.through
    link.objects.bulk_create(
        link(team_id=one["id"], workspace_id=workspace)
        for one in data["teams"].values()
        for workspace in one["workspaces"]
    )
    rows = [
        {"uid": uid, "workspace_id": workspace}
        for workspace, one in data["workspaces"].items()
        for uid in one.get("libraries", ())
    ]
    with DRIVER.session() as session:
        session.run("MATCH (l:Library) DETACH DELETE l").consume()
        for name in ("uid", "workspace_id"):
            session.run(f"CREATE INDEX IF NOT EXISTS FOR (l:Library) ON (l.{name})").consume()
        session.run("UNWIND $rows AS row CREATE (l:Library) SET l = row", rows=rows).consume()
        session.run("CALL db.awaitIndexes()").consume()


def _moment(seconds):
    return seconds and datetime.fromtimestamp(seconds, UTC)


def decide(case):
    if case["claims"] is None:
        grant = _of_token(case["bearer"])
        query, ids = _OF_UIDS, grant and grant.libraries
    else:
        grant = _of_team(case["bearer"])
        query = _OF_WORKSPACES
        links = Team.workspaces.through.objects.filter(team_id=grant and grant.id)
        ids = list(links.values_list("workspace_id", flat=True))
    if grant is None or not any(fnmatchcase(case["tool"], one) for one in grant.tools):
        return False, []
    with DRIVER.session() as session:
        return True, [row["uid"] for row in session.run(query, ids=ids)]


def _of_token(bearer):
    hashed = sha256(bearer.encode()).hexdigest()
    found = MCPToken.objects.select_related("user").filter(token_hash=hashed).first()
    if found is None or not found.active or not found.user.active:
        return None
    expired = found.expires_at is not None and found.expires_at <= timezone.now()
    return None if expired else found


def _of_team(bearer):
    kid = jwt.get_unverified_header(bearer)["kid"]
    key = MCPSigningKey.objects.filter(kid=kid, active=True).first()
    if key is None:
        return None
    claims = jwt.decode(
        bearer, jwt.PyJWK(key.jwk), algorithms=[key.jwk["alg"]], options={"verify_aud": False}
    )
    team_id = claims["sub"].removeprefix("team:")
    found = Team.objects.select_related("owner").filter(id=team_id).first()
    if found is None or not found.active or not found.owner.active:
        return None
    return found if found.active_jti == claims["jti"] else None


fill(json.loads(Path(GIVEN["dataset"]).read_text()))
for _ in range(400):  # until Java has compiled what it runs
    for each in GIVEN["cases"][:2]:
        decide(each)
run(decide)
