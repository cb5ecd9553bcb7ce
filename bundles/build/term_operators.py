"""The mutation operators for terms: constants, collections and calls."""

from collections.abc import Iterator, Mapping, Sequence

from bundles.build.changes import Edit
from bundles.build.source_text import Node, SourceText, Span, call_name

NEGATED = {"equal": "!=", "neq": "==", "eq": "!=", "lt": ">=", "lte": ">", "gt": "<=", "gte": "<"}
BOUNDARY = {"lt": "<=", "lte": "<", "gt": ">=", "gte": ">"}
ARITHMETIC: Mapping[str, Sequence[str]] = {
    "plus": "-", "minus": "+|&", "mul": "/", "div": "*", "rem": "*", "and": "|", "or": "&",
}  # fmt: skip
_COMMUTATIVE = {"plus", "mul", "and", "or"}
_PAIRS = [
    ("startswith", "endswith"), ("max", "min"), ("lower", "upper"), ("floor", "ceil"),
    ("union", "intersection"), ("trim_left", "trim_right"), ("trim_prefix", "trim_suffix"),
    ("strings.any_prefix_match", "strings.any_suffix_match"), ("sum", "product"),
    ("object.filter", "object.remove"), ("json.filter", "json.remove"),
]  # fmt: skip
SIBLINGS = {name: sibling for a, b in _PAIRS for name, sibling in ((a, b), (b, a))}
SHAPING = {"sort", "lower", "upper", "trim_space", "round", "floor", "ceil", "abs"}
"""Functions whose result has the type of what they are given."""
_MEMBER = "internal.member_2"


def of_term(source: SourceText, term: Node) -> Iterator[Edit]:
    """Yield the changes of a term itself; of what is in it, only those of its elements' number."""
    span = source.span(term)
    if not span:
        return
    kind, value = term["type"], term.get("value")
    text = source.text[slice(*span)]
    if kind == "string" and text[:1] in {'"', "`"}:
        yield Edit("string", *span, '""' if value else '"mutant"')
    elif kind == "number":
        for operator, change in (("number-up", 1), ("number-down", -1)):
            if isinstance(value, int | float):
                yield Edit(operator, *span, str(value + change))
    elif kind in {"boolean", "null"}:
        yield Edit("constant", *span, "true" if text == "false" else "false")
    elif kind in {"array", "set", "object"}:
        yield from _of_collection(source, term, span)
    elif kind == "call":
        yield from of_call(source, term["value"], span, widen=True)


def of_call(
    source: SourceText, terms: Sequence[Node], span: Span | None, *, widen: bool
) -> Iterator[Edit]:
    """Yield the changes of a function's or an infix operator's application.

    Args:
        source: the file.
        terms: the function, then its arguments.
        span: the place of it all.
        widen: whether `x in y` may come to hold for each x. An expression that is nothing but that
            is dropped anyway.
    """
    name, word = call_name(terms), source.span(terms[0])
    if not word:
        return
    for operator, others in (("comparison", NEGATED), ("boundary", BOUNDARY)):
        if name in others:
            yield Edit(operator, *word, others[name])
    for sign in ARITHMETIC.get(name, ""):
        yield Edit("arithmetic", *word, sign)
    if name in SIBLINGS and source.text[slice(*word)] == name:
        yield Edit("builtin", *word, SIBLINGS[name])
    places = [place for term in terms[1:] if (place := source.span(term))]
    if len(places) == len(terms) - 1:
        yield from _of_arguments(source, name, word, span, places, widen=widen)


def _of_arguments(
    source: SourceText, name: str, word: Span, span: Span | None, places: list[Span], *, widen: bool
) -> Iterator[Edit]:
    texts = [source.text[slice(*place)] for place in places]
    if name in ARITHMETIC and len(places) == 2:  # noqa: PLR2004 - infix
        whole = (places[0][0], places[1][1])
        kept = texts if name in _COMMUTATIVE else texts[:1]
        yield from (Edit("drop-operand", *whole, text) for text in kept)
    elif name == _MEMBER and widen:
        yield Edit("widen-membership", *places[1], f"{{{texts[0]}}}")
    elif name in SHAPING and span:
        yield Edit("drop-call", *_from_word(span, word), texts[0])
    elif len(places) > 1 and word[0] < places[0][0] and texts[0] != texts[1]:
        between = source.text[places[0][1] : places[1][0]]
        yield Edit("swap-arguments", places[0][0], places[1][1], f"{texts[1]}{between}{texts[0]}")


def _from_word(span: Span, word: Span) -> Span:
    """The place of a call without the `not` that may stand before it."""
    return word[0], span[1]


def _of_collection(source: SourceText, term: Node, span: Span) -> Iterator[Edit]:
    empty = {"array": "[]", "set": "set()", "object": "{}"}[term["type"]]
    if not term.get("value"):
        filled = {"array": '["mutant"]', "set": '{"mutant"}', "object": '{"mutant": true}'}
        yield Edit("fill-collection", *span, filled[term["type"]])
        return
    places = sorted(_elements(source, term))
    if len(places) != len(term["value"]):
        return
    if len(places) == 1:
        yield Edit("drop-element", *span, empty)
        return
    for index, (start, end) in enumerate(places):
        last = index == len(places) - 1
        cut = (places[index - 1][1], end) if last else (start, places[index + 1][0])
        yield Edit("drop-element", *cut, "", (source.text[start:end], ""))


def _elements(source: SourceText, term: Node) -> Iterator[Span]:
    for element in term["value"]:
        pair = element if term["type"] == "object" else (element, element)
        first, second = (source.span(one) for one in pair)
        if first and second:
            yield first[0], second[1]
