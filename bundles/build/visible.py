"""What a site's rules may see, as types."""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from bundles.build import builtins
from bundles.build import types as t
from bundles.build.inference import Inference
from bundles.build.syntax import Rule
from bundles.build.types import Type
from bundles.opa.binary import OPA

READABLE = frozenset({"actions", "principal", "granted_libraries", "library"})
"""What a site rule may read of `data.lictor`. The rest depends on the site's rules in turn, or
would bypass the one way to a record."""


def infer(opa: OPA, rules: Sequence[Rule], schemas: Path) -> Inference:
    """Start to type a site's rules, from what they may see.

    Args:
        opa: declares the builtins.
        rules: the rules and functions that there are.
        schemas: the folder of the product's schemas.
    """
    input_type, lictor = _visible_types(schemas)
    return Inference(
        rules, input_type=input_type, lictor=lictor, builtins=builtins.read_declarations(opa)
    )


def members_of_an_action(inference: Inference) -> dict[str, Type]:
    """The members that an action can have, and what each can be."""
    actions = t.member(inference.lictor, t.constant("actions")) or frozenset()
    (items,) = actions
    assert isinstance(items, t.Items)  # noqa: S101 - an array, by its schema
    return {
        name: given
        for action in items.item
        if isinstance(action, t.Object)
        for name, given in action.members
    }


@lru_cache(maxsize=4)
def _visible_types(schemas: Path) -> tuple[Type, Type]:
    query = json.loads((schemas / "input.json").read_text())
    site = json.loads((schemas / "site.json").read_text())["properties"]
    action = t.from_schema(site["actions"]["items"], "action")
    uids = frozenset({t.Items("set", frozenset({t.Scalar("string", meaning="uid")}))})
    lictor = t.Object(
        (
            ("actions", frozenset({t.Items("array", action)})),
            ("principal", t.from_schema(site["principal"], "principal")),
            ("granted_libraries", uids),
            ("library", t.from_schema(site["library"], "library")),
        ),
        meaning="data.lictor",
    )
    (given,) = t.from_schema(query, "input")
    assert isinstance(given, t.Object)  # noqa: S101 - an object, by its schema
    actions = {"action": action, "actions": frozenset({t.Items("array", action)})}
    members = tuple((name, actions.get(name, one)) for name, one in given.members)
    return frozenset({t.Object(members, None, "input")}), frozenset({lictor})
