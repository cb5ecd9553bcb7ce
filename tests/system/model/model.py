"""The semantics of a decision in plain Python, written from the contract before the Rego was read.

Nothing of the product is imported. A disagreement with OPA is settled by the contract (docs/reference/contract.md), never by patching this.
Elsewhere in the reference stand: the names of fields and settings and where
`issuer_invalid` stands in the order (docs/reference/bundles.md, decision.md); patterns for other methods
than `tools/call` (rego.md, ADR 0011); actions that a site rule names by their members, and rules that
read libraries (rego.md); a setting that is not there (`stale_data`, as anything that is missing). A
team that says nothing has `["*"]` when it is read from the registry; every published record has `tools`.
"""

import hashlib

from .shapes import OTHERS, entry, fits, granted, is_number, refused_by_site, strings

NANO = 1_000_000_000
AUTHENTICATION = (
    "missing_token", "token_deactivated", "token_expired", "user_disabled", "key_unknown", "key_retired",
    "issuer_invalid", "per_turn_retired", "team_unknown", "team_inactive", "owner_disabled", "invalid_token",
)  # fmt: skip
ORDER = ("behind", "stale_data", "lockdown", *AUTHENTICATION, "tool_not_allowed", "site_rule")


class Reader:
    """Records, live before base; `stale` when an answer rests on a shard that does not fit."""

    def __init__(self, registry):
        self.live, self.base = entry(registry, "live"), entry(registry, "base")
        self.since = entry(self.live, "since")
        self.stale = False

    def record(self, kind, name):
        """The record; None when it is deleted, unknown, or does not fit and so is published as null."""
        found = self.unchecked(kind, name)
        return found if fits(kind, found) else None

    def unchecked(self, kind, name):
        """The record before it is published, once its shard is checked."""
        shard = self._shard(kind, name) if self.since else None
        self.check_shard(shard)
        above = entry(self.live, kind) or {}
        return above[name] if name in above else entry(self.base, shard, kind, name)

    def check_shard(self, shard):
        """A shard fits when it is of live's epoch and not older than what live goes on from."""
        held, since = entry(self.base, shard), entry(self.since, shard)
        numbers = is_number(since) and is_number(entry(held, "revision"))
        if (
            not numbers
            or held["revision"] < since
            or held.get("epoch") != entry(self.live, "epoch")
        ):
            self.stale = True

    def look_at_all(self):
        """For rules that may read any record."""
        for number in range(len(self.since or [None])):
            self.check_shard(f"{number:02x}")

    def _shard(self, kind, name):
        # The first byte of a token's digest, or of the SHA-256 of any other id, modulo their number.
        digest = name if kind == "tokens" else hashlib.sha256(name.encode()).hexdigest()
        return f"{int(digest[:2], 16) % len(self.since):02x}"


def behind(live, query):
    """Whether the caller has seen newer: (epoch, revision) never goes down."""
    wanted = query.get("min_epoch"), query.get("min_revision")
    seen = entry(live, "epoch"), entry(live, "revision")
    if wanted == (None, None):
        return False
    return not all(map(is_number, seen)) or seen < (
        seen[0] if wanted[0] is None else wanted[0],
        seen[1] if wanted[1] is None else wanted[1],
    )


def stale(dataset, now):
    """Whether heartbeat, live and the policies do not fit together, or are not fresh, at `now` in ns."""
    heartbeat, live = entry(dataset, "registry", "heartbeat"), entry(dataset, "registry", "live")
    for moment, limit in (
        ("synced_at_ns", "staleness_limit"),
        ("reconciled_at_ns", "reconcile_limit"),
    ):
        at, most = entry(heartbeat, moment), entry(live, "settings", limit)
        if not (is_number(at) and is_number(most) and -5 * NANO <= now - at <= most * NANO):
            return True
    marks = [entry(place, name) for name in ("revision", "epoch") for place in (live, heartbeat)]
    if not all(map(is_number, marks)) or marks[0] < marks[1] or marks[2] != marks[3]:
        return True
    runs = [entry(dataset, place, "manifest", "revision") for place in ("lictor", "site")]
    named = [strings(entry(heartbeat, place)) for place in ("policy", "site")]
    locked = entry(live, "settings", "lockdown")
    return not isinstance(locked, bool) or runs[0] not in named[0] or runs[1] not in named[1]


def caller(reader, credential, now):
    """The caller: (reasons against it, tool patterns, libraries)."""
    if credential["kind"] == "token":
        return _token(reader, credential, now)
    return _jwt(reader, credential) if credential["kind"] == "jwt" else ({"missing_token"}, [], [])


def _token(reader, credential, now):
    token = reader.record("tokens", credential["digest"])
    if token is None:
        return {"invalid_token"}, [], []
    user, ends = reader.record("users", token["user"]), token["expires_at"]
    against = {
        "token_deactivated": not token["active"],
        "token_expired": ends is not None and ends * NANO <= now,
        "user_disabled": not entry(user, "active"),
    }
    return {reason for reason in against if against[reason]}, token["tools"], token["libraries"]


def _jwt(reader, credential):
    claims, key = credential["claims"], reader.record("keys", credential["kid"])
    for_team, (prefix, _, team_id) = claims.get("typ") == "team", claims["sub"].partition(":")
    for_known = for_team and prefix + ":" == claims["sub"][:5] == "team:"
    team = reader.record("teams", team_id) if for_known else None
    against = {
        "key_unknown": key is None,
        "key_retired": key is not None and not key["active"],
        "issuer_invalid": claims["iss"] not in strings(entry(reader.live, "settings", "issuers"))
        or (for_team and claims["iss"] != "mnemosyne"),
        "per_turn_retired": not for_team,
        "invalid_token": for_team and not for_known,
        "team_unknown": for_known and team is None,
    }
    union = set()
    if team is not None:
        owner = reader.record("users", team["owner"])
        against["team_inactive"] = not team["active"]
        against["owner_disabled"] = not entry(owner, "active")
        against["invalid_token"] = team["active_jti"] != claims["jti"]
        for name in team["workspaces"]:
            union |= {*(entry(reader.record("workspaces", name), "libraries") or ())}
    return {reason for reason in against if against[reason]}, team["tools"] if team else [], union


def hidden_by_site(dataset, reader, libraries):
    """The libraries that the site's rules take away: by name, or by a tag; also those whose tags are unknown."""
    rules = dataset["rules"]
    # One of a wrong form was meant to hide something.
    sound = all(isinstance(uid, str) for uid in rules["hidden"])
    hidden = {*rules["hidden"]} if sound else {*libraries}
    if dataset["site"]["manifest"]["libraries"]:
        reader.look_at_all()
        for uid in libraries:
            found = reader.unchecked("libraries", uid)
            untold = found is not None and not fits("libraries", found)
            if untold or {*(entry(found, "tags") or ())} & {*rules["sealed"]}:
                hidden.add(uid)
    return hidden


def standing(dataset, query, now):
    """The reasons against the caller whatever the action, its tool patterns, and its libraries."""
    live, reader = entry(dataset, "registry", "live"), Reader(dataset.get("registry"))
    against, tools, libraries = caller(reader, query["credential"], now)
    left = {*libraries} - hidden_by_site(dataset, reader, libraries)
    against |= {"behind"} if behind(live, query) else set()
    against |= {"stale_data"} if stale(dataset, now) or reader.stale else set()
    against |= {"lockdown"} if entry(live, "settings", "lockdown") is True else set()
    return against, tools, sorted(left)


def refusals(dataset, against, tools, actions, action):
    """What speaks against one of the actions, besides what speaks against the caller."""
    everything = "*" in tools and action["method"] in {"tools/call", *OTHERS}
    own = action["method"] == "logging/setLevel" and not against
    may = everything or own or granted(tools, action)
    refused = refused_by_site(dataset["rules"], actions, action)
    return ({"site_rule"} if refused else set()) | (set() if may else {"tool_not_allowed"})


def decide(dataset, query, now):
    """`{"allow", "reason", "libraries"}` of a call at `now`, nanoseconds since 1970."""
    against, tools, left = standing(dataset, query, now)
    against |= refusals(dataset, against, tools, [query["action"]], query["action"])
    allow = not against
    return {"allow": allow, "reason": first(against), "libraries": left if allow else []}


def visible(dataset, query, now):
    """`{"indices", "reason"}` of a list: what a call would be allowed, or to an anonymous caller what is listable."""
    against, tools, _ = standing(dataset, query, now)
    credential, actions, indices = query["credential"], query["actions"], []
    bad = credential["kind"] != "anonymous" or credential.get("rejected") is True
    listable = entry(dataset, "registry", "live", "settings", "listable")
    patterns = strings(entry(listable, "rejected" if bad else "anonymous"))
    for index, action in enumerate(actions):
        more = refusals(dataset, against, tools, actions, action)
        strange = against and against <= {*AUTHENTICATION} and "site_rule" not in more
        if not (against or more) or (strange and granted(patterns, action)):
            indices.append(index)
    return {"indices": indices, "reason": first(against)}


def first(against):
    """The reason: the first that applies, in the contract's order."""
    return next((code for code in ORDER if code in against), "ok")
