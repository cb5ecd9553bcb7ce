"""The tool patterns that the policy can match, in a time that callers cannot prolong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LENGTH = 256
MAX_STARS = 8
MAX_GROUPS = 2
MAX_ALTERNATIVES = 16
"""Within these, one pattern on a name of 1,024 characters costs OPA 12 ms at most; see
docs/reference/cli.md."""


def glob_fault(pattern: str) -> str | None:
    r"""Return why `glob.match` in OPA could not use a pattern; None if it can.

    It is stricter than https://github.com/gobwas/glob, which reads a typo as text: a bracket
    outside its place must be escaped with a backslash. `[…]` holds either plain characters or one
    range, `[a-z]`, not both. It also refuses patterns on which OPA could spend seconds: for several
    `*`, and for `*` beside `{…}`, OPA tries all possible matches one after the other.
    """
    return _form_fault(pattern) or _cost_fault(pattern)


def _form_fault(pattern: str) -> str | None:
    depth = 0
    position = 0
    while position < len(pattern):
        match pattern[position]:
            case "\\":
                position += 1
                if position == len(pattern):
                    return "ends in a backslash"
            case "[":
                end = _class_end(pattern, position + 1)
                if end is None:
                    return "has a [ without a usable ]"
                position = end
            case "]":
                return "has a ] without a ["
            case "{":
                depth += 1
            case "}" if depth == 0:
                return "has a } without a {"
            case "}":
                depth -= 1
            case _:
                pass
        position += 1
    return "has a { without a }" if depth else None


def _cost_fault(pattern: str) -> str | None:
    """Return why a well-formed pattern could be slow to match; None if it is not."""
    if len(pattern) > MAX_LENGTH and set(pattern) & set("*?[{"):
        return f"has more than {MAX_LENGTH} characters and a wildcard"
    inside, outside = False, 0
    # The number of `*` in each alternative of each group.
    groups: list[list[int]] = []
    for char in _operators(pattern):
        if char == "{" and inside:
            return "has a { inside of {…}"
        if char == "{":
            groups.append([0])
        elif char == "," and inside:
            groups[-1].append(0)
        elif char == "*" and inside:
            groups[-1][-1] += 1
        outside += char == "*" and not inside
        inside = char == "{" or (inside and char != "}")
    return _excess(outside, groups)


def _excess(outside: int, groups: list[list[int]]) -> str | None:
    if len(groups) > MAX_GROUPS:
        return f"has more than {MAX_GROUPS} {{…}}"
    if any(len(alternatives) > MAX_ALTERNATIVES for alternatives in groups):
        return f"has more than {MAX_ALTERNATIVES} alternatives in {{…}}"
    stars = outside + sum(map(max, groups))
    if groups and stars > 1:
        return "has {…} and more than one *; write a pattern for each alternative"
    return f"has more than {MAX_STARS} *" if stars > MAX_STARS else None


def _operators(pattern: str) -> Iterator[str]:
    """Yield the characters of a pattern that are neither escaped nor in a class."""
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "\\":
            position += 1
        elif char == "[":
            position = _class_end(pattern, position + 1) or position
        else:
            yield char
        position += 1


def _class_end(pattern: str, start: int) -> int | None:
    """Return the index of the `]` that closes the class whose content begins at `start`."""
    if pattern[start : start + 1] == "!":
        start += 1
    if pattern[start + 1 : start + 2] == "-":
        low, high = pattern[start], pattern[start + 2 : start + 3]
        closed = pattern[start + 3 : start + 4] == "]"
        return start + 3 if closed and low <= high and not {low, high} & set("[]\\") else None
    position = start
    while position < len(pattern) and pattern[position] != "]":
        if pattern[position] == "[":
            return None
        position += 2 if pattern[position] == "\\" else 1
    return position if start < position < len(pattern) else None
