"""What is said of a term that makes a rule ineffective, and the signs of a pattern."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

from bundles.build import types as t
from bundles.build.syntax import Node
from bundles.build.types import Type

_NAMES = {"action.name", "action.uri", "action.tags[_]", "uid", "library.tags[_]"}


def undefined(names: Sequence[Any]) -> str:
    """A reference to a rule that the site does not have."""
    parts = [one if isinstance(one, str) else one.get("value") for one in names if one]
    dotted = ".".join(one if isinstance(one, str) else "[…]" for one in parts)
    return f"no rule defines data.{dotted}, so this never holds"


def no_member(given: Type, part: Node) -> str:
    """A reference to a member that a value cannot have."""
    shown = part["value"] if part["type"] == "string" else "that"
    known = sorted({name for one in given if isinstance(one, t.Object) for name, _ in one.members})
    if not known:
        return f"{t.kinds(given)} has no member {shown}, so this never holds"
    meaning = next((one.meaning for one in given if isinstance(one, t.Object)), "") or "this object"
    return f"{meaning} has no member {shown}, only {', '.join(known)}{_suggestion(shown, known)}"


def misspelt_hint(given: Type, name: str) -> str:
    """A hint of MCP's in another spelling; a server may have hints of its own besides."""
    hints = [
        known
        for one in given
        if isinstance(one, t.Object) and one.meaning == "action.annotations"
        for known, _ in one.members
    ]
    if not hints or name in hints:
        return ""
    same = [known for known in hints if known.lower() == name.lower()]
    close = same or difflib.get_close_matches(name, hints, n=1, cutoff=0.75)
    return f"MCP has no hint {name}; did you mean {close[0]}?" if close else ""


def swapped_arguments(name: str, given: Sequence[Type]) -> str:
    """A builtin that is given a name where the text or pattern to look for belongs."""
    if name == "glob.match" and is_name(given[0]) and not is_name(given[-1]):
        return "glob.match takes the pattern first and the name last; these are swapped"
    if name in {"startswith", "endswith"} and is_name(given[1]) and t.string_values(given[0]):
        return f"{name} takes the name first and the text to look for last; these are swapped"
    return ""


def wrong_argument(name: str, number: int, given: Type, wanted: Type) -> str:
    """A builtin's argument of a kind that it does not take."""
    return (
        f"argument {number} of {name} must be {t.kinds(wanted)}, "
        f"this is {t.kinds(given)}, so the rule never applies"
    )


def never_equal(left: Type, right: Type) -> list[str]:
    """Each reason for which two values are never the same, or one of several never is."""
    found = []
    for one, other in ((left, right), (right, left)):
        known = sorted(
            {str(value) for atom in one if _is_enumerated(atom) for value in atom.values or ()}
        )
        if known and all(_is_enumerated(atom) or atom.kind == "null" for atom in one):
            meaning = next(atom.meaning for atom in one if _is_enumerated(atom))
            found += [
                f"{meaning} is never {value!r}, only {', '.join(known)}{_suggestion(value, known)}"
                for value in sorted((t.string_values(other) or frozenset()) - set(known))
            ]
    objects = {one.kind for one in left | right} == {"object"}
    if objects and not t.meets(left, right):
        found.append("two objects are equal only with the same members; these never have them")
    return found


def _is_enumerated(atom: t.Atom) -> TypeGuard[t.Scalar]:
    return isinstance(atom, t.Scalar) and atom.closed


def is_name(given: Type) -> bool:
    """Whether a value is the name of something that exists, and so never a pattern."""
    return any(isinstance(one, t.Scalar) and one.meaning in _NAMES for one in given)


def looks_like_pattern(text: str) -> bool:
    """Whether a text looks like a glob: `pay_*`, but not a URI's `?` or a template's braces."""
    if "://" in text:
        return "*" in re.sub(r"\{[^{}]*\}", "", text)
    return bool(re.search(r"[*?\[\]{}]", text))


def pattern_for_name(text: str) -> str:
    """A pattern where a name belongs."""
    return (
        f"{text!r} is compared as a name, so it matches nothing; "
        f"use glob.match({text!r}, null, …) in the body".replace("'", '"')
    )


def _suggestion(given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
