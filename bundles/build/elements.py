"""The elements that rules add to `deny` and `hidden`: of the form that the decision reads."""

import difflib
from collections.abc import Iterator, Mapping

from bundles.build import types as t
from bundles.build import wording
from bundles.build.types import Type

_MEMBERS = ("action", "code", "message")


def faults_of_denial(given: Type, action_members: Mapping[str, Type]) -> Iterator[str]:
    """What keeps an element of `deny` from refusing what its author meant.

    Args:
        given: the element's type.
        action_members: what an action has.
    """
    objects = [one for one in given if isinstance(one, t.Object)]
    if not objects and not t.is_any(given):
        yield (
            "an element of deny is an object with action, code and message, "
            f"this is {t.kinds(given)}"
        )
    for one in objects:
        absent = [name for name in _MEMBERS if one.member(name) is None]
        if absent:
            close = difflib.get_close_matches(absent[0], [name for name, _ in one.members], n=1)
            hint = f"; is {close[0]} meant to be {absent[0]}?" if close else ""
            yield f"deny lacks {', '.join(absent)}{hint}"
            continue
        for name in ("code", "message"):
            text = one.member(name)
            if text and not t.meets(text, t.STRING):
                yield f"deny's {name} must be a string, this is {t.kinds(text)}"
        yield from _faults_of_action(one.member("action") or t.ANY, action_members)


def faults_of_hidden(given: Type) -> Iterator[str]:
    """What keeps an element of `hidden` from hiding a library."""
    if not t.meets(given, t.STRING):
        yield f"an element of hidden is a library's uid, this is {t.kinds(given)}"
    for value in filter(wording.looks_like_pattern, _texts(given)):
        yield wording.pattern_for_name(value)
    meanings = {one.meaning for one in given if isinstance(one, t.Scalar)}
    if len(meanings) == 1 and (meaning := meanings.pop()) not in {"", "uid"}:
        yield f"an element of hidden is a library's uid, this is {meaning}"


def _faults_of_action(given: Type, members: Mapping[str, Type]) -> Iterator[str]:
    if not any(one.kind in {"string", "object", "any"} for one in given):
        yield (
            "deny's action is an action, an object with some of its members, or a name; "
            f"this is {t.kinds(given)}"
        )
    for value in filter(wording.looks_like_pattern, _texts(given)):
        yield wording.pattern_for_name(value)
    for one in given:
        if isinstance(one, t.Object) and one.meaning != "action":
            for name, part in one.members:
                if name in members:
                    yield from _faults_of_part(name, part, members[name])
                else:
                    close = difflib.get_close_matches(name, list(members), n=1)
                    hint = f"; did you mean {close[0]}?" if close else ""
                    known = ", ".join(sorted(members))
                    yield f"an action has no member {name}, only {known}{hint}"


def _faults_of_part(name: str, part: Type, actual: Type) -> Iterator[str]:
    if t.is_any(part):
        return
    collection = any(one.kind == "array" for one in actual)
    fitting = {"array", "set"} if collection else {one.kind for one in actual}
    if not {one.kind for one in part} & fitting:
        yield f"deny's action has {t.kinds(part)} as {name}, an action has {t.kinds(actual)}"
        return
    yield from wording.never_equal(actual, part)
    if name in {"name", "uri"}:
        yield from map(wording.pattern_for_name, filter(wording.looks_like_pattern, _texts(part)))


def _texts(given: Type) -> list[str]:
    """The texts that a value can be, as far as they are written out."""
    return sorted(
        value
        for one in given
        if isinstance(one, t.Scalar) and one.kind == "string" and not one.closed
        for value in one.values or ()
    )
