"""The semantics of a decision in plain Python, written from DESIGN.md alone, before the Rego was read.

Nothing of the product is imported. A disagreement with OPA is settled by DESIGN.md, never by patching this.
"""

import hashlib
import re

NANO = 1_000_000_000
# The order in which DESIGN.md names what Rego decides; the first that applies is the reason.
ORDER = (
    "behind", "stale_data", "lockdown", "missing_token",
    "token:invalid_token", "token_deactivated", "token_expired", "user_disabled",
    "key_unknown", "key_retired", "per_turn_retired",
    "sub:invalid_token", "team_unknown", "team_inactive", "owner_disabled", "jti:invalid_token",
    "tool_not_allowed", "site_rule",
)  # fmt: skip
AUTHENTICATION = ORDER[3:-2]


def is_number(value):
    """A JSON number; `true` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def strings(value):
    """The strings of a list; of anything else nothing."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def entry(value, *path):
    """What stands at a path of nested objects; None when any step is missing."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) and isinstance(step, str) else None
    return value


def glob_matches(pattern, name):
    """`glob.match(pattern, null, name)`: no separators, so that `*` runs over everything."""
    regex, depth, at = "", 0, 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "\\" and at + 1 < len(pattern):
            at += 1
            regex += re.escape(pattern[at])
        elif sign in "*?":
            regex += ".*" if sign == "*" else "."
        elif sign == "[" and "]" in pattern[at:]:
            end = pattern.index("]", at)
            inside = pattern[at + 1 : end]
            regex += "[" + ("^" + inside[1:] if inside[:1] == "!" else inside) + "]"
            at = end
        elif sign == "{":
            regex, depth = regex + "(?:", depth + 1
        elif sign in ",}" and depth:
            regex, depth = regex + {",": "|", "}": ")"}[sign], depth - (sign == "}")
        else:
            regex += re.escape(sign)
        at += 1
    return re.fullmatch(regex, name, re.DOTALL) is not None


class Reader:
    """Records, live before base; notes when an answer would rest on a shard that does not fit."""

    def __init__(self, registry):
        self.live = entry(registry, "live")
        self.base = entry(registry, "base")
        self.since = entry(self.live, "since")
        self.stale = False

    def record(self, kind, name):
        """The record as published; None when it is deleted, unknown, or not one."""
        if not isinstance(name, str):
            return None
        shard = self._shard(kind, name)
        held, since = entry(self.base, shard), entry(self.since, shard)
        fits = (
            is_number(since)
            and is_number(entry(held, "revision"))
            and held["revision"] >= since
            and entry(held, "epoch") is not None
            and held["epoch"] == entry(self.live, "epoch")
        )
        if not fits:
            self.stale = True
            return None
        above = entry(self.live, kind)
        found = (
            above[name] if isinstance(above, dict) and name in above else entry(held, kind, name)
        )
        return found if isinstance(found, dict) else None

    def _shard(self, kind, name):
        if not isinstance(self.since, dict) or not self.since:
            return None
        try:
            first = (
                int(name[:2], 16) if kind == "tokens" else hashlib.sha256(name.encode()).digest()[0]
            )
        except ValueError:
            return None
        return f"{first % len(self.since):02x}"


def behind(registry, query):
    """Whether what the caller has already seen is newer: (epoch, revision) never goes down."""
    epoch, revision = entry(registry, "live", "epoch"), entry(registry, "live", "revision")
    wanted_epoch, wanted = query.get("min_epoch"), query.get("min_revision")
    if wanted_epoch is not None:
        if not (is_number(epoch) and is_number(wanted_epoch)) or epoch < wanted_epoch:
            return True
        if epoch > wanted_epoch:
            return False
    return wanted is not None and not (
        is_number(revision) and is_number(wanted) and revision >= wanted
    )


def stale(world, now_ns):
    """Whether heartbeat, live and the policies fit together and are fresh."""
    registry = world.get("registry")
    heartbeat, live = entry(registry, "heartbeat"), entry(registry, "live")
    limits = entry(live, "settings") or {}
    for moment, limit, default in (
        ("synced_at_ns", "stale_after_seconds", 30),
        ("reconciled_at_ns", "reconcile_after_seconds", 600),
    ):
        at = entry(heartbeat, moment)
        if not is_number(at) or now_ns - at > limits.get(limit, default) * NANO:
            return True
        if at - now_ns > 5 * NANO:
            return True
    reached, needed = entry(live, "revision"), entry(heartbeat, "revision")
    if not (is_number(reached) and is_number(needed) and reached >= needed):
        return True
    if not is_number(entry(live, "epoch")) or live["epoch"] != entry(heartbeat, "epoch"):
        return True
    return any(
        entry(world, bundle, "manifest", "revision") not in strings(entry(heartbeat, bundle))
        for bundle in ("lictor", "site")
    )


def caller(reader, credential, now_ns):
    """Who asks: (reasons against, tool patterns, libraries)."""
    kind, record = entry(credential, "kind"), reader.record
    if kind == "token":
        token = record("tokens", credential.get("digest"))
        if token is None:
            return {"token:invalid_token"}, [], []
        ends = token.get("expires_at")
        user = record("users", token.get("user"))
        against = {
            "token_deactivated": token.get("active") is not True,
            "token_expired": ends is not None and not (is_number(ends) and ends * NANO > now_ns),
            "user_disabled": entry(user, "active") is not True,
        }
        return _true(against), strings(token.get("tools")), strings(token.get("libraries"))
    if kind != "jwt":
        return {"missing_token"}, [], []
    claims, key = credential.get("claims"), record("keys", credential.get("kid"))
    against = {"key_unknown": key is None, "key_retired": key and key.get("active") is not True}
    if entry(claims, "typ") != "team":
        return _true(against) | {"per_turn_retired"}, [], []
    sub = entry(claims, "sub")
    if not isinstance(sub, str) or not sub.startswith("team:"):
        return _true(against) | {"sub:invalid_token"}, [], []
    team = record("teams", sub.removeprefix("team:"))
    if team is None:
        return _true(against) | {"team_unknown"}, [], []
    jti, owner = team.get("active_jti"), record("users", team.get("owner"))
    against |= {
        "team_inactive": team.get("active") is not True,
        "owner_disabled": entry(owner, "active") is not True,
        "jti:invalid_token": not isinstance(jti, str) or jti != entry(claims, "jti"),
    }
    held = [record("workspaces", name) for name in strings(team.get("workspaces"))]
    union = [uid for workspace in held for uid in strings(entry(workspace, "libraries"))]
    return _true(against), strings(team.get("tools", ["*"])), union


def _true(against):
    return {reason for reason, applies in against.items() if applies}


def answer(world, query, action, now_ns):
    """One call: `{"allow", "reason", "libraries"}`, and the codes behind it as `against`."""
    registry, reader = world.get("registry"), Reader(world.get("registry"))
    against, tools, libraries = caller(reader, query.get("credential"), now_ns)
    if behind(registry, query):
        against.add("behind")
    if stale(world, now_ns) or reader.stale:
        against.add("stale_data")
    if entry(registry, "live", "settings", "lockdown") is True:
        against.add("lockdown")
    name, rules = entry(action, "name"), world.get("rules", {})
    if not isinstance(name, str) or not any(glob_matches(pattern, name) for pattern in tools):
        against.add("tool_not_allowed")
    if name in rules.get("names", ()) or set(strings(entry(action, "tags"))) & set(
        rules.get("tags", ())
    ):
        against.add("site_rule")
    reason = next((code for code in ORDER if code in against), "ok")
    kept = set(libraries) - set(rules.get("libraries", ())) if not against else set()
    return {
        "allow": not against, "reason": reason.split(":")[-1], "libraries": sorted(kept), "against": against,
    }  # fmt: skip


def visible(world, query, now_ns):
    """The indices of the actions that show, in order."""
    settings = entry(world.get("registry"), "live", "settings") or {}
    kind = entry(query.get("credential"), "kind")
    listable = {"anonymous": settings.get("listable", ["*"])}.get(kind, [])
    shown = []
    for index, action in enumerate(query["actions"]):
        got = answer(world, query, action, now_ns)
        listed = any(glob_matches(pattern, action["name"]) for pattern in strings(listable))
        if got["allow"] or (listed and got["against"] <= {"missing_token", "tool_not_allowed"}):
            shown.append(index)
    return shown
