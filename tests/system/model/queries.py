"""The same queries to OPA and to the model, many in a batch; and the smallest dataset in which they differ."""

import copy
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from bundles.publish.records import RecordValidator
from registry.model import Kind, Ref

from . import model
from .datasets import NANO, NOW

REGO = Path(__file__).parent / "rego"
OPTIONS = (str(REGO / "batch.rego"), str(REGO / "site"))
"""For `PlainOPA`: the site whose rules are data, and a rule that evaluates many queries at once."""
UNAVAILABLE = {"allow": False, "reason": "unavailable", "libraries": []}


def published(dataset):
    """The dataset as the publisher would let it out: records that do not fit are null."""
    laid = copy.deepcopy(dataset)
    registry, validator = laid.get("registry", {}), RecordValidator()
    for place in [*registry.get("base", {}).values(), registry.get("live", {})]:
        for kind in Kind:
            for name, record in (
                (place.get(kind.value) or {}).items() if kind is not Kind.SETTINGS else ()
            ):
                place[kind.value][name] = validator.validate(Ref(kind, name), record)
    return laid


def held(registry):
    """A published registry as OPA holds it: a base's records are JSON in strings, but for some that an older
    `lictor serve` wrote, and one that was refused may be text that is not JSON. Every other `live` names the shards."""
    laid = copy.deepcopy(registry)
    for place in laid.get("base", {}).values():
        for records in (place[kind.value] for kind in Kind if place.get(kind.value)):
            for name, record in records.items():
                match zlib.crc32(name.encode()) % 5:
                    case 0:
                        pass
                    case 1 if record is None:
                        records[name] = '{"active":true'
                    case _:
                        records[name] = json.dumps(record)
    live = laid.get("live", {})
    if live.get("since") and live.get("revision") in (42, None):
        live["shards"] = {f"{n:02x}": f"{n % len(live['since']):02x}" for n in range(256)}
    return laid


def later(laid, seconds):
    """A published dataset as many seconds later, so that it is at another moment what it was at `NOW`."""
    moved = copy.deepcopy(laid)
    registry = moved.get("registry", {})
    for name in ("synced_at_ns", "reconciled_at_ns"):
        at = registry.get("heartbeat", {}).get(name)
        if isinstance(at, int) and not isinstance(at, bool):
            registry["heartbeat"][name] = at + seconds * NANO
    for place in [*registry.get("base", {}).values(), registry.get("live", {})]:
        for token in filter(None, place.get("tokens", {}).values()):
            if token["expires_at"] is not None:
                token["expires_at"] += seconds
    return moved


def answers(opa, dataset, queries, now=NOW):
    """OPA's answer to each query, in order; `dataset` is as it was published."""
    opa.request("PATCH", "/v1/data", [
        {"op": "add", "path": "/registry", "value": held(dataset.get("registry", {}))},
        {"op": "add", "path": "/lictor", "value": dataset["lictor"]},
        {"op": "add", "path": "/site", "value": dataset["site"]},
        {"op": "add", "path": "/rules", "value": dataset["rules"]},
    ])  # fmt: skip
    return _asked(opa, queries, now)


def _asked(opa, queries, now):
    try:
        said = json.loads(opa.request(
            "POST", "/v1/data/model/answers?strict-builtin-errors=true",
            {"input": {"now": now, "queries": queries}},
        ))["result"]  # fmt: skip
    except AssertionError:  # one query that cannot be answered spoils the batch
        if len(queries) == 1:
            return [UNAVAILABLE]
        half = len(queries) // 2
        return _asked(opa, queries[:half], now) + _asked(opa, queries[half:], now)
    found = said["decisions"] | said["lists"]
    return [found.get(str(index)) for index in range(len(queries))]


def expected(dataset, query, now=NOW):
    """What the model says."""
    return (model.visible if "actions" in query else model.decide)(dataset, query, now)


@dataclass
class Difference:
    """A query that OPA and the model answer differently."""

    dataset: dict
    query: dict
    model: dict
    opa: dict
    now: int = field(default=NOW)

    def __str__(self):
        return "\n".join(
            f"{name}: {json.dumps(getattr(self, name))}"
            for name in ("dataset", "query", "model", "opa")
        )


def differences(opa, dataset, queries, now=NOW):
    """All queries that the two answer differently, and what the model said to each."""
    wanted = [expected(dataset, query, now) for query in queries]
    given = answers(opa, published(dataset), queries, now)
    return wanted, [
        Difference(dataset, *three, now)
        for three in zip(queries, wanted, given, strict=True)
        if three[1] != three[2]
    ]


def smallest(opa, difference):
    """The difference without whatever is not needed for both to answer as they do."""
    kept = difference
    size = None
    while size != (size := len(json.dumps([kept.dataset, kept.query]))):
        for part in ("dataset", "query"):
            for path in _paths(getattr(kept, part)):
                tried = {"dataset": kept.dataset, "query": kept.query}
                tried[part] = _without(tried[part], path)
                if tried[part] is not None and _same(opa, difference, **tried):
                    kept = Difference(**tried, model=kept.model, opa=kept.opa, now=kept.now)
    return kept


def _same(opa, difference, dataset, query):
    try:
        wanted = expected(dataset, query, difference.now)
        given = answers(opa, published(dataset), [query], difference.now)
    except (KeyError, TypeError, AttributeError, IndexError):
        return False
    return wanted == difference.model and given == [difference.opa]


def _paths(value, path=()):
    """Where something can be left out, the widest first."""
    steps = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for step in list(steps):
        yield (*path, step)
    for step in list(steps):
        yield from _paths(value[step], (*path, step))


def _without(value, path):
    left = copy.deepcopy(value)
    place = left
    try:
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
    except (KeyError, IndexError, TypeError):
        return None
    return left
