"""Whether a Cypher query is limited to `$libraries`, as far as its tokens say so.

There is no Cypher parser to lean on, so this reads tokens, and accepts few forms: in each part of a
UNION, a WHERE has `property IN $libraries` as a condition of its own, joined to others by AND
alone. Openness to others (OR, XOR, NOT), and any other use of `$libraries`, is refused.

Source: openCypher, Cypher Query Language Reference, 9.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(
    r"""
    (?P<blank>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<name>`(?:[^`]|``)*`|[^\W\d]\w*)
    |(?P<parameter>\$(?:`(?:[^`]|``)*`|\w+))
    |(?P<number>\d[\w.]*)
    |(?P<sign><=|>=|<>|=~|\.\.|->|<-|[^\w\s])
    """,
    re.VERBOSE | re.DOTALL,
)
_CLAUSES: Final = frozenset(
    "CALL CREATE DELETE DETACH FINISH FOREACH INSERT LIMIT LOAD MATCH MERGE OFFSET OPTIONAL ORDER"
    " REMOVE RETURN SET SKIP UNION UNWIND USE USING WITH".split()
)  # fmt: skip
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
_BOUND: Final = "$libraries"
_LITERALS: Final = frozenset({"NULL", "TRUE", "FALSE"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def word(self) -> str:
        """The keyword that it may be; a quoted name is none."""
        return self.text.upper() if self.kind == "name" and self.text[0] != "`" else ""


def why_not_limited(query: str) -> str:
    """Return why a query cannot be shown to be limited to its libraries; empty if it is."""
    tokens = _tokens(query)
    if tokens is None:
        return "it cannot be read"
    if any(token.text == f"{_BOUND[0]}`libraries`" for token in tokens):
        return "write $libraries without backticks"
    if any(token.text == ";" for token in tokens[:-1]):
        return "it is more than one statement"
    uses = sum(token.text == _BOUND for token in tokens)
    parts = _parts(tokens)
    bounds = [sum(_bounds(part)) for part in parts]
    if sum(bounds) != uses:
        return (
            "each `$libraries` must stand in a WHERE, as `property IN $libraries` and joined to "
            "other conditions by AND alone"
        )
    if not all(bounds):
        return "it does not limit itself to its libraries, in each part of a UNION"
    return ""


def _tokens(query: str) -> list[_Token] | None:
    found, at = [], 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None or match.lastgroup is None or match[0] in "'\"`":
            return None
        if match.lastgroup != "blank":
            found.append(_Token(match.lastgroup, match[0]))
        at = match.end()
    return found


def _parts(tokens: Sequence[_Token]) -> list[list[_Token]]:
    """Split a query at each UNION that is not within braces."""
    parts: list[list[_Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text in _OPENING) - (token.text in _OPENING.values())
        if token.word == "UNION" and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _bounds(tokens: Sequence[_Token]) -> Iterator[bool]:
    """Yield True for each bound of a part that surely limits it."""
    optional = False
    braces: list[bool] = []
    computed = _computed(tokens)
    for index, token in enumerate(tokens):
        if token.word in {"MATCH", "WITH", "CALL", "YIELD"}:
            optional = index > 0 and tokens[index - 1].word == "OPTIONAL"
        elif token.text == "{":
            braces.append(_is_call(tokens, index))
        elif token.text == "}" and braces:
            braces.pop()
        elif token.word == "WHERE" and not optional and all(braces) and not _in_list(tokens, index):
            for condition in _conditions(_predicate(tokens, index + 1)):
                if _is_bound(condition) and condition[0].text not in computed:
                    yield True


def _computed(tokens: Sequence[_Token]) -> set[str]:
    """Return the names that `AS` gives to anything but a variable or a property of one.

    A bound on such a name says nothing about what was matched: `WITH d, 'mine' AS library`.
    """
    names = set()
    for index in range(1, len(tokens) - 1):
        if tokens[index].word == "AS":
            before = [*_expression(tokens, index - 1)]
            paths, dots = before[::2], before[1::2]
            is_path = all(one.kind == "name" and one.word not in _LITERALS for one in paths)
            if not before or not is_path or any(one.text != "." for one in dots):
                names.add(tokens[index + 1].text)
    return names


def _expression(tokens: Sequence[_Token], end: int) -> Iterator[_Token]:
    """Yield the tokens that end at an index, backwards to a comma, a clause or an open bracket."""
    depth = 0
    for index in range(end, -1, -1):
        token = tokens[index]
        depth += (token.text in _OPENING.values()) - (token.text in _OPENING)
        ends = token.text == "," or token.word in _CLAUSES or token.word in {"DISTINCT", "YIELD"}
        if depth < 0 or (depth == 0 and ends):
            return
        yield token


def _is_call(tokens: Sequence[_Token], brace: int) -> bool:
    """Return whether braces are those of a subquery that runs for each row: `CALL (…) { … }`."""
    before = brace - 1
    if before >= 0 and tokens[before].text == ")":
        while before >= 0 and tokens[before].text != "(":
            before -= 1
        before -= 1
    return before >= 0 and tokens[before].word == "CALL"


def _in_list(tokens: Sequence[_Token], where: int) -> bool:
    """Return whether a WHERE belongs to a comprehension or a predicate such as `ALL(x IN …)`."""
    depth = 0
    for index in range(where - 1, -1, -1):
        text = tokens[index].text
        if text in _OPENING.values():
            depth += 1
        elif text in _OPENING:
            if depth == 0:
                # A pattern's node or relationship has no `IN` and no name of a function before it.
                called = index > 0 and tokens[index - 1].word in _FUNCTIONS
                return called or any(one.word == "IN" for one in tokens[index:where])
            depth -= 1
        elif depth == 0 and tokens[index].word in _CLAUSES:
            return False
    return False


_FUNCTIONS: Final = frozenset({"ALL", "ANY", "NONE", "SINGLE", "REDUCE", "EXISTS", "COUNT"})


def _predicate(tokens: Sequence[_Token], start: int) -> list[_Token]:
    """Return the tokens of a WHERE, to the next clause or the bracket that it stands in."""
    depth, found = 0, []
    for token in tokens[start:]:
        if token.text in _OPENING:
            depth += 1
        elif token.text in _OPENING.values():
            depth -= 1
            if depth < 0:
                break
        elif depth == 0 and (token.word in _CLAUSES or token.text == ";"):
            break
        found.append(token)
    return found


def _conditions(tokens: Sequence[_Token]) -> Iterator[Sequence[_Token]]:
    """Yield the conditions that AND joins; none where OR or XOR leaves a choice."""
    depth, pieces = 0, [[]]  # type: tuple[int, list[list[_Token]]]
    for token in tokens:
        depth += (token.text in _OPENING) - (token.text in _OPENING.values())
        if depth == 0 and token.word in {"OR", "XOR"}:
            return
        if depth == 0 and token.word == "AND":
            pieces.append([])
        else:
            pieces[-1].append(token)
    for piece in pieces:
        if _is_wrapped(piece):
            yield from _conditions(piece[1:-1])
        else:
            yield piece


def _is_wrapped(tokens: Sequence[_Token]) -> bool:
    """Return whether one pair of parentheses is around all of it."""
    if not tokens or tokens[0].text != "(":
        return False
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.text in _OPENING) - (token.text in _OPENING.values())
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _is_bound(tokens: Sequence[_Token]) -> bool:
    """Return whether a condition is `name IN $libraries` or `name.property IN $libraries`."""
    if len(tokens) < 3 or tokens[-1].text != _BOUND or tokens[-2].word != "IN":  # noqa: PLR2004
        return False
    names, dots = tokens[:-2:2], tokens[1:-2:2]
    return (
        len(names) == len(dots) + 1
        and all(one.kind == "name" and one.word not in {"NOT", *_LITERALS} for one in names)
        and all(one.text == "." for one in dots)
    )
