"""Laws that hold between answers of OPA, whatever the right answer is; no model is needed for them.

Each takes an OPA, a dataset and queries by one chance, and returns what breaks the law, or None.
"""

import copy
import json
import random

from . import model
from .datasets import NANO, NOW, digest, one_of, random_dataset, random_query, shard_of
from .queries import answers, published

QUERIES = 8
GRANTS = {
    "tokens": ("tools", "libraries"),
    "teams": ("tools", "workspaces"),
    "workspaces": ("libraries",),
}


def _sound(chance):
    # Records that do not fit are for the model: here each record is what it says.
    laid = published(random_dataset(chance))
    return laid, [random_query(chance) for _ in range(QUERIES)]


def _wider(before, after, queries):
    """A query to which the second answer gives what the first did not."""
    for asked, first, second in zip(queries, before, after, strict=True):
        if "actions" in asked:
            # A caller that is refused now may see what is listable to anonymous callers.
            wider = first["reason"] == second["reason"] and {*second["indices"]} - {
                *first["indices"]
            }
        else:
            wider = second["allow"] > first["allow"] or {*second["libraries"]} - {
                *first["libraries"]
            }
        if wider:
            return json.dumps([asked, first, second])
    return None


def _other(before, after, queries):
    """A query that is answered in another way."""
    for asked, first, second in zip(queries, before, after, strict=True):
        if first != second:
            return json.dumps([asked, first, second])
    return None


def _places(laid, kind):
    registry = laid.get("registry", {})
    return [
        place[kind]
        for place in (*registry.get("base", {}).values(), registry.get("live", {}))
        if kind in place
    ]


def removing_a_grant_gives_nothing(opa, chance):
    """A pattern, a library, a workspace, a record or its activity is taken away: no new allow, no new library."""
    laid, queries = _sound(chance)
    less = copy.deepcopy(laid)
    kind = one_of(chance, ("tokens", "tokens", "teams", "teams", "users", "keys", "workspaces"))
    held = _places(less, kind)
    names = sorted({name for place in held for name in place})
    for name in names:
        how = one_of(
            chance, (0, 1, 2, 2, 2, 3)
        )  # its record, its activity, the first of each grant, nothing
        for place in [place for place in held if place.get(name)]:
            record = place[name]
            if how == 0:
                place[name] = None
            elif how == 1 and "active" in record:
                record["active"] = False
            for field in GRANTS.get(kind, ()) if how == 2 else ():
                record[field] = record[field][1:]
    return _wider(answers(opa, laid, queries), answers(opa, less, queries), queries)


def renaming_principals_changes_nothing(opa, chance):
    """Users, teams, tokens, keys and workspaces get other ids, everywhere, and fall into other shards."""
    laid, queries = _sound(chance)
    reader = model.Reader(laid.get("registry"))
    reader.look_at_all()
    if reader.stale:
        return None  # which shard a record falls into must not matter
    other = _world_renamed(laid, len(reader.since))
    asked = [_query_renamed(query) for query in queries]
    return _other(answers(opa, laid, queries), answers(opa, other, asked), queries)


def _world_renamed(laid, shards):
    other = copy.deepcopy(laid)
    base, live = other["registry"]["base"], other["registry"]["live"]
    for kind in ("users", "teams", "tokens", "keys", "workspaces"):
        # What is in another shard than its own (the dataset has some) was never found, and must not be now.
        held = [
            records
            for shard, place in base.items()
            for records in place.pop(kind, {}).items()
            if shard == shard_of(kind, records[0], shards)
        ]
        for name, record in held:
            new = _renamed(kind, name)
            base[shard_of(kind, new, shards)].setdefault(kind, {})[new] = record
        live[kind] = {_renamed(kind, name): record for name, record in live.get(kind, {}).items()}
        for record in filter(
            None, [one for place in _places(other, kind) for one in place.values()]
        ):
            for field in {"user", "owner"} & {*record}:
                record[field] = _renamed("users", record[field])
            if "workspaces" in record:
                record["workspaces"] = [_renamed("workspaces", one) for one in record["workspaces"]]
    return other


def _query_renamed(query):
    asked = copy.deepcopy(query)
    credential = asked["credential"]
    if "digest" in credential:
        credential["digest"] = _renamed("tokens", credential["digest"])
    if "kid" in credential:
        credential["kid"] = _renamed("keys", credential["kid"])
        head, colon, team = credential["claims"]["sub"].partition(":")
        credential["claims"]["sub"] = head + colon + (_renamed("teams", team) if colon else "")
    return asked


def _renamed(kind, name):
    return digest(name) if kind == "tokens" else f"{name[::-1]}\u2603 /{kind}"


def a_site_rule_never_widens(opa, chance):
    """With the site's rules nothing is allowed, listed or named that is not without them."""
    laid, queries = _sound(chance)
    none = copy.deepcopy(laid)
    none["rules"] = {name: [] for name in laid["rules"]}
    none["site"]["manifest"]["libraries"] = False
    return _wider(answers(opa, none, queries), answers(opa, laid, queries), queries)


def order_never_matters(opa, chance):
    """Every list of the dataset, every object's members, tags and the actions of a list come in another order."""
    laid, queries = _sound(chance)
    mixer = random.Random(chance.randrange(2**32))
    other, asked = _mixed(mixer, laid), copy.deepcopy(queries)
    wanted = answers(opa, laid, queries)
    for query, first in zip(asked, wanted, strict=True):
        if "actions" in query:
            order = mixer.sample(range(len(query["actions"])), len(query["actions"]))
            query["actions"] = [_mixed(mixer, query["actions"][index]) for index in order]
            first["indices"] = [new for new, old in enumerate(order) if old in first["indices"]]
        else:
            query["action"] = _mixed(mixer, query["action"])
    return _other(wanted, answers(opa, other, asked), queries)


def _mixed(mixer, value):
    if isinstance(value, dict):
        members = [(name, _mixed(mixer, member)) for name, member in value.items()]
        return dict(mixer.sample(members, len(members)))
    return (
        mixer.sample([_mixed(mixer, one) for one in value], len(value))
        if isinstance(value, list)
        else value
    )


def an_answer_holds_until_it_says(opa, chance):
    """Until a microsecond before `valid_until` time alone does not change an answer."""
    laid, queries = _sound(chance)
    first = answers(opa, laid, queries)
    said = json.loads(
        opa.request("POST", "/v1/data/model/ends", {"input": {"now": NOW, "queries": queries}})
    )
    for index, end in said["result"].items():
        if end is not None and (last := int(end * NANO) - 1000) > NOW:
            asked, then = [queries[int(index)]], [first[int(index)]]
            if broken := _other(then, answers(opa, laid, asked, last), asked):
                return broken
    return None


def callers_together_are_each_as_if_alone(opa, chance):
    """Many credentials are checked with one query: the same reasons, whatever the data."""
    laid, queries = _sound(chance)
    credentials = [query["credential"] for query in queries]
    answers(opa, laid, [])
    asked = {"input": {"now": NOW, "credentials": credentials}}
    together, each = (
        json.loads(opa.request("POST", f"/v1/data/model/{rule}", asked)).get("result")
        for rule in ("callers", "each_caller")
    )
    if together == each or (together == [] and {*each} == {"stale_data"}):
        return None
    return json.dumps([credentials, together, each])


LAWS = (
    removing_a_grant_gives_nothing, renaming_principals_changes_nothing, a_site_rule_never_widens,
    order_never_matters, an_answer_holds_until_it_says,
    callers_together_are_each_as_if_alone,
)  # fmt: skip
