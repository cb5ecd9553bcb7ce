"""Mutants of Rego: one small change each, made in the text where the syntax tree says.

A walk over the tree hands every rule, body, expression and term to the operators, each of which
yields the changes that it has for it. Lines stay where they are, as nothing is formatted anew.
A change that does not compile does no harm: the run leaves it out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from bundles.build import term_operators
from bundles.build.changes import Edit
from bundles.build.source_text import Node, SourceText, Span, call_name

COMPARISONS = {"equal", "neq", "lt", "lte", "gt", "gte", "eq"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one change.

    Attributes:
        file: the changed file, relative to its folder.
        row: the line of the change, from 1.
        rule: the first line of the rule that is changed.
        operator: which kind of change it is.
        before: what was there.
        after: what is there now; empty where something was taken out.
        occurrence: 1, or the position among changes of this rule, kind and text in the file.
        diff: the changed lines, as in a unified diff.
        content: the whole changed file.
    """

    file: str
    row: int
    rule: str
    operator: str
    before: str
    after: str
    occurrence: int
    diff: str
    content: str

    @property
    def identity(self) -> tuple[str, ...]:
        """What stays the same while other lines of the file change; white space aside."""
        return (self.file, *map(squeeze, (self.rule, self.operator, self.before, self.after)))


def squeeze(text: str) -> str:
    """A text with each run of white space as one blank."""
    return " ".join(text.split())


def make_mutants(source: SourceText) -> list[Mutant]:
    """Make every mutant of a file, in the order of its text."""
    mutants: list[Mutant] = []
    seen: dict[tuple[str, ...], int] = {}
    contents = {source.text}
    for rule in source.tree.get("rules", []):
        head = _first_line(source, rule)
        for change in sorted(_changes(source, rule), key=lambda change: (change.start, change.end)):
            mutant = _mutant(source, head, change)
            if mutant.content in contents:
                continue
            contents.add(mutant.content)
            seen[mutant.identity] = seen.get(mutant.identity, 0) + 1
            mutants.append(replace(mutant, occurrence=seen[mutant.identity]))
    return mutants


def _mutant(source: SourceText, rule: str, change: Edit) -> Mutant:
    text = source.text
    content = text[: change.start] + change.text + text[change.end :]
    before, after = change.label or (text[change.start : change.end], change.text)
    first = source.line_start(change.start)
    tail = text.find("\n", change.end)
    unchanged = len(text) - (len(text) if tail < 0 else tail)
    old, new = (whole[first : len(whole) - unchanged] for whole in (text, content))
    if change.operator == "drop-rule":
        old, new = before, after
    diff = [f"-{line}" for line in old.splitlines()] + [f"+{line}" for line in new.splitlines()]
    return Mutant(
        file=source.path, row=source.row(change.start), rule=rule, operator=change.operator,
        before=before, after=after, occurrence=1, diff="\n".join(diff), content=content,
    )  # fmt: skip


def _first_line(source: SourceText, rule: Node) -> str:
    span = source.span(rule["head"] if rule.get("default") else rule)
    text = source.text[slice(*span)] if span else str(rule["head"].get("name", ""))
    return ("default " if rule.get("default") else "") + text.split("\n", 1)[0].strip()


def _changes(source: SourceText, rule: Node) -> Iterator[Edit]:
    if rule.get("default"):
        yield from _of_default(source, rule)
    else:
        yield from _of_rule(source, rule)
        yield from _of_implied_value(source, rule)
        yield from _of_else(source, rule)
    head = rule["head"]
    for term in (head.get("value"), head.get("key")):
        yield from _of_term(source, term) if term else ()
    yield from _of_body(source, rule["body"])
    if "else" in rule:
        # Dropped by `drop-else`, and so not once more as a rule.
        yield from (c for c in _changes(source, rule["else"]) if c.operator != "drop-rule")


def _of_default(source: SourceText, rule: Node) -> Iterator[Edit]:
    word, head = source.span(rule), source.span(rule["head"])
    if word and head:
        yield Edit("drop-default", word[0], head[1], "", (source.text[word[0] : head[1]], ""))


def _of_rule(source: SourceText, rule: Node) -> Iterator[Edit]:
    """`drop-rule`: a rule that never holds. Others may go on to name it."""
    whole = source.span(rule)
    if not whole:
        return
    label = (source.text[slice(*whole)], "")
    first = rule["body"][0]
    if first.get("generated"):
        if "else" not in rule:
            yield Edit("drop-rule", whole[1], whole[1], " if false", label)
    elif (body := _body_span(source, rule["body"])) is not None:
        text = source.text[slice(*body)]
        braces = source.text[: body[0]].rstrip().endswith("{")
        yield Edit(
            "drop-rule", *body, f"false; {text}" if braces else f"{{ false; {text} }}", label
        )


def _of_implied_value(source: SourceText, rule: Node) -> Iterator[Edit]:
    """`head-value`: what is true without saying so is false."""
    head = rule["head"]
    span = source.span(head)
    if span and "key" not in head and head.get("value", {}).get("location") is None:
        yield Edit("head-value", span[1], span[1], " := false", ("", ":= false"))


def _of_else(source: SourceText, rule: Node) -> Iterator[Edit]:
    span = source.span(rule["else"]) if "else" in rule else None
    if span:
        after = source.span(rule["else"]["else"]) if "else" in rule["else"] else None
        end = after[0] if after else span[1]
        yield Edit("drop-else", span[0], end, "", (source.text[span[0] : end].strip(), ""))


def _of_body(source: SourceText, body: Sequence[Node]) -> Iterator[Edit]:
    for index, expression in enumerate(body):
        if not expression.get("generated"):
            yield from _of_expression(source, expression)
            yield from _of_some(source, body[index:])


def _of_expression(source: SourceText, expression: Node) -> Iterator[Edit]:
    terms, span = expression["terms"], source.span(expression)
    if span:
        yield from _of_whole_expression(source, expression, span)
    for modifier in expression.get("with", []):
        if place := source.span(modifier):
            yield Edit("drop-with", *place, "", (source.text[slice(*place)], ""))
        yield from _of_term(source, modifier["value"])
    if isinstance(terms, list):
        # One that is nothing but `x in y` is dropped as a whole.
        widen = bool(expression.get("negated"))
        yield from term_operators.of_call(source, terms, span, widen=widen)
        yield from chain.from_iterable(_of_term(source, term) for term in terms[1:])
    elif "symbols" in terms:
        for symbol in terms["symbols"]:
            if symbol.get("type") == "call":
                yield from _of_term(source, symbol["value"][-1])
    elif "domain" in terms:
        yield from _of_term(source, terms["domain"])
        yield from _of_body(source, terms["body"])
    else:
        yield from _of_term(source, terms)


def _of_whole_expression(source: SourceText, expression: Node, span: Span) -> Iterator[Edit]:
    terms, text = expression["terms"], source.text[slice(*span)]
    name = call_name(terms)
    declares = isinstance(terms, dict) and "symbols" in terms
    every = isinstance(terms, dict) and "domain" in terms
    if name != "assign":
        yield Edit("drop-expression", *span, "true", (text, ""))
    if expression.get("negated"):
        yield Edit("drop-not", *span, text.removeprefix("not").lstrip())
    elif not (declares or every or name == "assign" or name in COMPARISONS):
        yield Edit("add-not", *span, f"not {text}")
    if every:
        yield from _of_every(source, terms, span)


def _of_every(source: SourceText, every: Node, span: Span) -> Iterator[Edit]:
    """`every-some`: one is enough."""
    domain, body = source.span(every["domain"]), _body_span(source, every["body"])
    if domain and body:
        text = source.text
        declared = text[span[0] : domain[1]].replace("every", "some", 1)
        yield Edit("every-some", *span, f"{declared}; {text[slice(*body)]}")


def _of_some(source: SourceText, body: Sequence[Node]) -> Iterator[Edit]:
    """`some-every`: one is not enough."""
    terms = body[0]["terms"]
    symbols = terms.get("symbols", [{}]) if isinstance(terms, dict) else [{}]
    if symbols[0].get("type") != "call":
        return
    declared, rest = source.span(body[0]), _body_span(source, body[1:])
    if declared and rest:
        text = source.text[slice(*declared)].replace("some", "every", 1)
        held = source.text[declared[1] : rest[1]].lstrip(" \t;")
        yield Edit("some-every", declared[0], rest[1], f"{text} {{ {held} }}")


def _body_span(source: SourceText, body: Sequence[Node]) -> Span | None:
    spans = [source.span(expression) for expression in body]
    known = [span for span in spans if span]
    return (known[0][0], known[-1][1]) if known and len(known) == len(spans) else None


def _of_term(source: SourceText, term: Node) -> Iterator[Edit]:
    yield from term_operators.of_term(source, term)
    kind, value = term.get("type"), term.get("value")
    if isinstance(value, dict) and str(kind).endswith("comprehension"):
        yield from _of_body(source, value["body"])
    yield from chain.from_iterable(_of_term(source, one) for one in _inner_terms(kind, value))


def _inner_terms(kind: str | None, value: Any) -> Iterator[Node]:
    if kind == "call":
        yield from value[1:]
    elif kind == "ref":
        # Names of fields are left alone: one that is not there is a dropped expression once more.
        yield from (one for one in value if one.get("type") not in {"string", "var"})
    elif kind == "object":
        yield from (pair[1] for pair in value)
    elif kind in {"array", "set"}:
        # A text in a literal is taken out, which says more than another text in its place.
        yield from (one for one in value if one.get("type") != "string")
    elif isinstance(value, dict):
        yield from (value[key] for key in ("key", "value", "term") if key in value)
