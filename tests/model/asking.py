"""The same questions to OPA and to the model, many in a query; and the smallest world in which they differ."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path

from bundles.publish.records import RecordValidator
from registry.model import Kind, Ref

from . import model
from .worlds import NANO, NOW

REGO = Path(__file__).parent / "rego"
OPTIONS = (str(REGO / "batch.rego"), str(REGO / "site"))
"""For `PlainOPA`: the site whose rules are data, and what asks many questions at once."""
UNAVAILABLE = {"allow": False, "reason": "unavailable", "libraries": []}


def published(world):
    """The world as the publisher would let it out: records that do not fit are null."""
    laid = copy.deepcopy(world)
    registry, validator = laid.get("registry", {}), RecordValidator()
    for place in [*registry.get("base", {}).values(), registry.get("live", {})]:
        for kind in Kind:
            for name, record in (
                (place.get(kind.value) or {}).items() if kind is not Kind.SETTINGS else ()
            ):
                place[kind.value][name] = validator.validate(Ref(kind, name), record)
    return laid


def later(laid, seconds):
    """A published world as many seconds later, so that it is at another moment what it was at `NOW`."""
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


def answers(opa, world, questions, now=NOW):
    """OPA's answer to each question, in order; `world` is as it was published."""
    opa.request("PATCH", "/v1/data", [
        {"op": "add", "path": "/registry", "value": world.get("registry", {})},
        {"op": "add", "path": "/lictor", "value": world["lictor"]},
        {"op": "add", "path": "/site", "value": world["site"]},
        {"op": "add", "path": "/rules", "value": world["rules"]},
    ])  # fmt: skip
    return _asked(opa, questions, now)


def _asked(opa, questions, now):
    try:
        said = json.loads(opa.request(
            "POST", "/v1/data/model/answers?strict-builtin-errors=true",
            {"input": {"now": now, "questions": questions}},
        ))["result"]  # fmt: skip
    except AssertionError:  # one question that cannot be answered spoils the query
        if len(questions) == 1:
            return [UNAVAILABLE]
        half = len(questions) // 2
        return _asked(opa, questions[:half], now) + _asked(opa, questions[half:], now)
    found = said["decisions"] | said["lists"]
    return [found.get(str(index)) for index in range(len(questions))]


def expected(world, query, now=NOW):
    """What the model says."""
    return (model.visible if "actions" in query else model.decide)(world, query, now)


@dataclass
class Difference:
    """A question that OPA and the model answer differently."""

    world: dict
    question: dict
    model: dict
    opa: dict
    now: int = field(default=NOW)

    def __str__(self):
        return "\n".join(
            f"{name}: {json.dumps(getattr(self, name))}"
            for name in ("world", "question", "model", "opa")
        )


def differences(opa, world, questions, now=NOW):
    """All questions that the two answer differently, and what the model said to each."""
    wanted = [expected(world, query, now) for query in questions]
    given = answers(opa, published(world), questions, now)
    return wanted, [
        Difference(world, *three, now)
        for three in zip(questions, wanted, given, strict=True)
        if three[1] != three[2]
    ]


def smallest(opa, difference):
    """The difference without whatever is not needed for both to answer as they do."""
    kept = difference
    size = None
    while size != (size := len(json.dumps([kept.world, kept.question]))):
        for part in ("world", "question"):
            for path in _paths(getattr(kept, part)):
                tried = {"world": kept.world, "question": kept.question}
                tried[part] = _without(tried[part], path)
                if tried[part] is not None and _same(opa, difference, **tried):
                    kept = Difference(**tried, model=kept.model, opa=kept.opa, now=kept.now)
    return kept


def _same(opa, difference, world, question):
    try:
        wanted = expected(world, question, difference.now)
        given = answers(opa, published(world), [question], difference.now)
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
