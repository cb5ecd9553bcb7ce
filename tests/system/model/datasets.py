"""Datasets and queries by chance: mostly sound, each with a chance of everything that the contract speaks of.

All chance comes from one `random.Random`: Hypothesis's own in the tests, a seeded one in the fuzzer. It
is asked for whole numbers only, which both draw evenly.
"""

import copy
import hashlib

NANO = 1_000_000_000
NOW = 1_795_000_000 * NANO + 250_000_000
# Ids and names that look like others, like Rego, like paths, or like nothing at all.
ODD = (
    "", "a", "A", "a ", "\u0430", "a\u200b", "a/b", "..", 'x"] ; true #', "\\", "l\u2028s", "\U0001f600", "<&>", "0", "00",
    "null", "team:a", "caf\u00e9", "cafe\u0301", "\t\x00", "get_a", "n" * 300,
)  # fmt: skip
TOOLS = ("search", "get_a", "get_b.c", "list_x/y", "write", "*", "prompts/get:ask", *ODD)
PATTERNS = (
    "search", "get_*", "{get,list}_*", "**", "?", "[a-c]*", "[!a]*", "\\*", "*:*", "prompts/get:*", "prompts/get:{ask,tell}",
    "resources/read:data://open/*", "resources/read:", "completion/complete:*", ":", "a,b", "*\U0001f600*", "*search*", *(one for one in ODD if one != "\\"),
)  # fmt: skip
METHODS = (
    "resources/read", "prompts/get", "completion/complete", "resources/subscribe", "subscriptions/listen", "logging/setLevel",
    "tools/destroy", "", "tools/call:",
)  # fmt: skip
OTHER_NAMES = ("data://open/x", "data://shut/x", "ask", "tell", "search", "*", "", "\u2028")
TAGS = ("read", "write", "sealed", "", "\u200b", "Read")
WRONG = (None, False, True, 0, 5, -1.5, "", "x", [], ["x", 5], [None], {}, {"x": "*"}, [["*"]])


def once_in(chance, sides):
    """True once in so many times."""
    return chance.randrange(sides) == 0


def one_of(chance, values):
    """Any of the values."""
    return values[chance.randrange(len(values))]


def some_of(chance, values, most):
    """A list of some of the values, maybe one twice."""
    return [one_of(chance, values) for _ in range(chance.randrange(most + 1))]


def digest(bearer):
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(bearer.encode()).hexdigest()


def shard_of(kind, name, shards):
    """The shard that a record is laid into; the model and the Rego have their own."""
    return f"{int((name if kind == 'tokens' else digest(name))[:2], 16) % shards:02x}"


class Maker:
    """One dataset, piece by piece."""

    def __init__(self, chance):
        self.chance = chance
        self.huge = once_in(chance, 60)
        libraries = [f"lib-{n}" for n in range(500 if self.huge else 5)]
        self.ids = {
            "users": self._ids(["ada", "bob", "eve"]),
            "keys": self._ids(["k1", "k2"]),
            "libraries": self._ids(libraries),
            "workspaces": self._ids(["w1", "w2", "w3"]),
            "teams": self._ids(["7f000000-0000-4000-8000-000000000001", "t2", "t3"]),
            "tokens": [digest(bearer) for bearer in ("alice", "bert", "carl", "dora")],
        }

    def _ids(self, plain):
        return list(dict.fromkeys([*plain, *some_of(self.chance, ODD, 2)]))

    def flag(self):
        """Mostly true."""
        return not once_in(self.chance, 12)

    def tools(self):
        """Mostly something that grants."""
        if once_in(self.chance, 3):
            return ["*"]
        patterns = some_of(self.chance, PATTERNS, 5) + some_of(self.chance, PATTERNS[:4], 2)
        return patterns + [f"tool_{n}_*" for n in range(300)] if self.huge else patterns

    def libraries(self):
        """Of any number, out of order and twice."""
        named = self.ids["libraries"]
        return some_of(self.chance, named, 5) + (named[::-1] if self.huge else [])

    def expiry(self):
        """Mostly none; else about now, to the nanosecond where JSON can say so, or far from it."""
        if not once_in(self.chance, 3):
            return None
        now = NOW / NANO
        return one_of(
            self.chance,
            (now, now + 0.5, now + 1, now - 1, 0, -1, 1e12, int(now), int(now) + 1, 2**63),
        )

    def record(self, kind):
        """A record that fits its schema."""
        chance, ids = self.chance, self.ids
        match kind:
            case "tokens":
                return {
                    "label": "lct_\u2026", "user": one_of(chance, ids["users"]), "active": self.flag(),
                    "expires_at": self.expiry(), "libraries": self.libraries(), "tools": self.tools(),
                }  # fmt: skip
            case "teams":
                return {
                    "name": one_of(chance, ODD), "owner": one_of(chance, ids["users"]), "active": self.flag(),
                    "active_jti": "j1" if not once_in(chance, 6) else one_of(chance, ("j2", "J1", "")),
                    "workspaces": some_of(chance, [*ids["workspaces"], "gone"], 4), "tools": self.tools(),
                }  # fmt: skip
            case "users":
                return {"name": one_of(chance, ODD), "active": self.flag()}
            case "keys":
                return {"alg": "EdDSA", "active": self.flag()}
            case "workspaces":
                return {"name": one_of(chance, ODD), "libraries": self.libraries()}
        return {"name": one_of(chance, ODD), "tags": some_of(chance, TAGS, 2)}

    def published(self, kind):
        """A record, one in thirty of the wrong type or with a field that does not fit."""
        record = self.record(kind)
        if not once_in(self.chance, 30):
            return record
        field = one_of(self.chance, (None, "more", *record))
        if field is None:
            return copy.deepcopy(one_of(self.chance, WRONG))
        if once_in(self.chance, 3):
            return {name: value for name, value in record.items() if name != field}
        return record | {field: copy.deepcopy(one_of(self.chance, WRONG))}

    def lay(self, base, live, shards):
        """Each record into its shard, into live, or into both; live is newer, and null is deleted."""
        for kind, names in self.ids.items():
            for name in names[:40]:
                if once_in(self.chance, 25):
                    continue  # named by others, and not there
                where = self.chance.randrange(10)
                if where < 8:
                    base[shard_of(kind, name, shards)].setdefault(kind, {})[name] = self.published(
                        kind
                    )
                if where > 6:
                    # Several records changed in one revision stand side by side.
                    gone = once_in(self.chance, 4)
                    live.setdefault(kind, {})[name] = None if gone else self.published(kind)


def _age(chance, limit):
    """How old something is, in ns: mostly young, else at the edges of the limit or of five seconds ahead."""
    if not once_in(chance, 40):
        return chance.randrange(NANO // 3)
    limit = int(limit * NANO) if isinstance(limit, int | float) else 30 * NANO
    return one_of(chance, (limit, limit + 1, -5 * NANO, -5 * NANO - 1, 0, 40 * limit, limit - 1))


def _settings(chance):
    limits = one_of(chance, (30, 30, 30, 30, 1, 0.5, 3600))
    settings = {
        "lockdown": once_in(chance, 25), "staleness_limit": limits, "reconcile_limit": 600,
        "listable": {"anonymous": one_of(chance, (["*"], ["*"], ["get_*", "resources/read:*"], [])),
                     "rejected": one_of(chance, ([], ["search", "prompts/get:*"], ["*"]))},
        "issuers": ["daedalus", "mnemosyne"] if not once_in(chance, 25) else some_of(chance, ("daedalus", "mnemosyne"), 1),
    }  # fmt: skip
    if once_in(chance, 40):
        settings[one_of(chance, list(settings))] = one_of(chance, (None, "false", "30", [], {}, 0))
    if once_in(chance, 40):
        del settings[one_of(chance, list(settings))]
    return settings


def _rules(chance):
    rules = {"deny": [], "tags": [], "name_tags": [], "hidden": [], "sealed": []}
    if once_in(chance, 2):
        named = one_of(
            chance,
            (
                *TOOLS[:6],
                "search",
                *ODD[:4],
                {"method": "prompts/get"},
                {"name": "search", "method": "tools/call"},
                {"tags": some_of(chance, TAGS[:2], 3)},
                {"method": "tools/call", "tags": some_of(chance, TAGS, 1)},
            ),
        )
        if once_in(chance, 15):
            named = one_of(chance, ({}, 5, None, {"tags": "write"}, {"version": None}))
        rules["deny"] = [{"action": named, "code": "closed", "message": "Closed."}]
        if once_in(chance, 15):
            del rules["deny"][0][one_of(chance, ("action", "code", "message"))]
    for name in ("tags", "name_tags"):
        rules[name] = some_of(chance, TAGS, 1) if once_in(chance, 4) else []
    rules["hidden"] = (
        some_of(chance, ("lib-0", "lib-1", "", "gone"), 2) if once_in(chance, 3) else []
    )
    if once_in(chance, 30):
        rules["hidden"] = [*rules["hidden"], one_of(chance, (7, None, ["lib-0"], {"uid": "lib-0"}))]
    rules["sealed"] = some_of(chance, TAGS, 2) if once_in(chance, 3) else []
    return rules


def _damage(chance, registry):
    """Something of the whole is missing, lags, or is of the wrong type."""
    base, live = registry["base"], registry["live"]
    shard = one_of(chance, sorted(base))
    match chance.randrange(11):
        case 0:
            del base[shard]
        case 1:
            base[shard]["revision"] = live["since"][shard] - 1
        case 2:
            base[shard]["epoch"] += one_of(chance, (-1, 1))
        case 3:
            del live["since"][one_of(chance, (shard, *live["since"]))]
        case 4 | 5:
            one_of(chance, (live, registry["heartbeat"]))["epoch"] += one_of(chance, (-1, 1))
        case 6:
            registry["heartbeat"]["revision"] = live["revision"] + 1
        case 7:
            del registry[one_of(chance, ("live", "heartbeat", "base"))]
        case 8:
            del live["since"]
        case 9:
            place = one_of(chance, (live, registry["heartbeat"], base[shard]))
            place.pop(one_of(chance, sorted(place)))
        case _:
            marks = {"epoch", "revision", "synced_at_ns", "reconciled_at_ns", "policy", "site"}
            place = one_of(chance, (live, registry["heartbeat"], base[shard]))
            place[one_of(chance, sorted(marks & {*place}))] = one_of(
                chance, (None, "x", True, [], {})
            )


def random_dataset(chance, damaged=14):
    """A registry as OPA would hold it, before records that do not fit are made null; and a site's rules.

    One dataset in `damaged` lacks something that has nothing to do with records, or lags.
    """
    maker = Maker(chance)
    shards = one_of(chance, (1, 1, 1, 2, 3, 5, 64 if once_in(chance, 4) else 2))
    base = {f"{n:02x}": {"epoch": 2, "revision": 30 + n % 3} for n in range(shards)}
    since = {shard: held["revision"] - n % 2 for n, (shard, held) in enumerate(base.items())}
    settings = _settings(chance)
    live = {"epoch": 2, "revision": 42 + chance.randrange(2), "since": since, "settings": settings}
    maker.lay(base, live, shards)
    heartbeat = {
        "epoch": 2, "revision": 42 - chance.randrange(3), "policy": ["p0", "p1"], "site": ["s1"],
        "synced_at_ns": NOW - _age(chance, settings.get("staleness_limit")),
        "reconciled_at_ns": NOW - _age(chance, settings.get("reconcile_limit")),
    }  # fmt: skip
    registry = {"base": base, "live": live, "heartbeat": heartbeat}
    if once_in(chance, damaged):
        _damage(chance, registry)
    rules = _rules(chance)
    return {
        "registry": registry,
        "lictor": {"manifest": {"revision": "p1" if not once_in(chance, 60) else "p9"}},
        "site": {"manifest": {"revision": "s1" if not once_in(chance, 60) else "s0", "clock": False,
                              "arguments": once_in(chance, 2),
                              "libraries": bool(rules["sealed"]) or once_in(chance, 8)}},
        "rules": rules,
    }  # fmt: skip


def _credential(chance):
    kind = chance.randrange(20)
    if kind < 8:
        return {
            "kind": "token",
            "digest": digest(one_of(chance, ("alice", "bert", "carl", "dora"))),
        }
    if kind == 8 and once_in(chance, 2):
        return {"kind": "token", "digest": digest(one_of(chance, ODD))}
    if kind == 9:
        return {"kind": "anonymous"} | ({"rejected": True} if once_in(chance, 2) else {})
    claims = {
        "iss": "mnemosyne", "typ": "team", "sub": "team:7f000000-0000-4000-8000-000000000001",
        "jti": "j1", "exp": NOW // NANO + 3600, "iat": NOW // NANO - 60,
    }  # fmt: skip
    if once_in(chance, 2):
        claims["sub"] = "team:" + one_of(
            chance, ("ada", *ODD) if once_in(chance, 5) else ("t2", "t3")
        )
    kid = "k1" if not once_in(chance, 10) else one_of(chance, ("k2", "k2", "gone", *ODD))
    return {
        "kind": "jwt",
        "kid": kid,
        "claims": _odd_claims(chance, claims) if once_in(chance, 5) else claims,
    }


def _odd_claims(chance, claims):
    if once_in(chance, 4):
        per_turn = {
            **claims,
            "iss": "daedalus",
            "sub": one_of(chance, ("u-1", "team:t2")),
            "libs": ["lib-0"],
        }
        del per_turn["typ"]
        return per_turn
    return claims | one_of(
        chance,
        (
            {"typ": one_of(chance, ("Team", "", "turn", "team\u200b"))},
            {"iss": one_of(chance, ("daedalus", "Mnemosyne", "x"))},
            {"sub": one_of(chance, ("team", "Team:t2", "t2", "user:t2", "team\u200b:t2"))},
            {"jti": one_of(chance, ("j2", "J1", "j1 "))},
        ),
    )


def _action(chance):
    method = "tools/call" if not once_in(chance, 4) else one_of(chance, METHODS)
    name = one_of(chance, TOOLS if once_in(chance, 4) else TOOLS[:6])
    if method != "tools/call":
        name = one_of(chance, OTHER_NAMES)
    action = {"method": method, "name": name}
    if not once_in(chance, 10):
        action["tags"] = some_of(chance, TAGS, 3)
    if once_in(chance, 10):
        action["version"] = one_of(chance, ("1", "2", ""))
    return action


def random_query(chance):
    """A call or a list, of anybody, with or without what the caller has already seen."""
    asked = {
        "credential": _credential(chance),
        "context": {
            "server": one_of(chance, ("s", "")),
            "transport": one_of(chance, ("http", "stdio")),
        },
    }
    if once_in(chance, 8):
        asked["min_revision"] = one_of(chance, (41, 42, 42, 43, 0))
        if not once_in(chance, 3):
            asked["min_epoch"] = one_of(chance, (1, 2, 2, 2, 3))
    elif once_in(chance, 40):
        asked["min_epoch"] = one_of(chance, (1, 2, 3))
    if once_in(chance, 4):
        asked["actions"] = [
            _action(chance) for _ in range(60 if once_in(chance, 100) else chance.randrange(8))
        ]
    else:
        asked["action"] = _action(chance)
        if once_in(chance, 10):
            asked["action"]["arguments"] = {"q": one_of(chance, ODD)}
    return asked
