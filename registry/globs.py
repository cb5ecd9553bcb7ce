"""Which tool patterns the policy can match."""

from __future__ import annotations


def glob_fault(pattern: str) -> str | None:
    r"""Why `glob.match` in OPA could not use a pattern; None if it can.

    Stricter than https://github.com/gobwas/glob where that takes a typo for text: a bracket outside
    its place has to be escaped with a backslash. `[…]` holds either plain characters or one range,
    `[a-z]`, not both.
    """
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


def _class_end(pattern: str, start: int) -> int | None:
    """The index of the `]` that closes the character class whose content begins at `start`."""
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
