"""What values a term of Rego can have: a set of alternatives, each a kind of value.

Good enough to say that a comparison never holds or that a member does not exist, and to follow an
action through variables, functions and comprehensions. In doubt a term can be anything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text, a number, a boolean or null.

    Attributes:
        kind: `string`, `number`, `boolean` or `null`.
        values: the only values that it can have; None for any of its kind.
        closed: whether `values` is all that there will ever be, as with an enumeration.
        meaning: what it stands for where that matters, such as `action.name`.
    """

    kind: str
    values: frozenset[Any] | None = None
    closed: bool = False
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Object:
    """An object.

    Attributes:
        members: the members that are known.
        other: what any other member can be; None where there is no other.
        meaning: what a schema calls it; empty for an object that is written out.
        required: the members that it always has, beside those that are written out.
    """

    members: tuple[tuple[str, "Type"], ...]
    other: "Type | None" = None
    meaning: str = ""
    required: frozenset[str] = frozenset()

    kind = "object"

    def member(self, name: str) -> "Type | None":
        """A member's type; None where the object cannot have it."""
        return dict(self.members).get(name, self.other)


@dataclass(frozen=True, slots=True)
class Items:
    """An array or a set."""

    kind: str
    item: "Type"


@dataclass(frozen=True, slots=True)
class Anything:
    """A value of which nothing is known, except that it is not a whole action."""

    kind = "any"


Atom: TypeAlias = Scalar | Object | Items | Anything
Type: TypeAlias = frozenset[Atom]

ANY: Type = frozenset({Anything()})
STRING: Type = frozenset({Scalar("string")})
NUMBER: Type = frozenset({Scalar("number")})
BOOLEAN: Type = frozenset({Scalar("boolean")})


def is_any(given: Type) -> bool:
    """Whether a type says nothing."""
    return Anything() in given


def union(types: Iterable[Type]) -> Type:
    """What is one of several types; anything where there are none."""
    return frozenset().union(*types) or ANY


def constant(value: Any) -> Type:
    """The type of one scalar value."""
    kinds = {str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return frozenset({Scalar(kinds[type(value)], frozenset({value}))})


def from_schema(schema: Mapping[str, Any], meaning: str) -> Type:
    """The type that a JSON schema describes, as far as the schemas of this project go."""
    kinds = schema.get("type", [])
    alternatives: list[Atom] = []
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "object":
            members = schema.get("properties", {}).items()
            other = None if schema.get("additionalProperties") is False else ANY
            alternatives.append(
                Object(
                    tuple((name, from_schema(one, f"{meaning}.{name}")) for name, one in members),
                    other,
                    meaning,
                    frozenset(schema.get("required", [])),
                )
            )
        elif kind == "array":
            item = from_schema(schema.get("items", {}), f"{meaning}[_]")
            alternatives.append(Items("set" if schema.get("uniqueItems") else "array", item))
        else:
            values = frozenset(schema["enum"]) if "enum" in schema else None
            name = "number" if kind == "integer" else kind
            alternatives.append(Scalar(name, values, values is not None, meaning))
    return frozenset(alternatives) or ANY


def from_declaration(declared: Mapping[str, Any]) -> Type:
    """The type that OPA's capabilities declare for an argument or a result of a builtin."""
    match declared["type"]:
        case "string" | "number" | "boolean" | "null" as kind:
            return frozenset({Scalar(kind)})
        case "array" | "set" as kind:
            items = declared.get("of") or declared.get("dynamic")
            kept = [from_declaration(one) for one in declared.get("static") or []]
            kept += [from_declaration(items)] if items else []
            return frozenset({Items(kind, union(kept))})
        case "object":
            return frozenset({Object((), ANY)})
        case "any":
            return union(from_declaration(one) for one in declared.get("of", []))
        case _:
            return ANY


def iterated(given: Type) -> tuple[Type, Type] | None:
    """The keys and the values of a collection; None where the value cannot be one."""
    keys, values = [], []
    for atom in given:
        match atom:
            case Items("array", item):
                keys.append(NUMBER)
                values.append(item)
            case Items(_, item):
                keys.append(item)
                values.append(item)
            case Object(members, other):
                keys.append(STRING)
                values.append(union([*(one for _, one in members), other or frozenset()]))
            case Anything():
                keys.append(ANY)
                values.append(ANY)
            case _:
                pass
    return (union(keys), union(values)) if keys else None


def member(given: Type, key: Type) -> Type | None:
    """What `value[key]` can be; None where there is never such a member."""
    found = []
    for atom in given:
        match atom:
            case Items("array", item) if meets(key, NUMBER):
                found.append(item)
            case Items("set", item) if meets(key, item):
                found.append(item)
            case Object():
                found += _members(atom, key)
            case Anything():
                found.append(ANY)
            case _:
                pass
    return union(found) if found else None


def _members(given: Object, key: Type) -> list[Type]:
    names = string_values(key)
    if names is None:
        known = [one for _, one in given.members]
        return [union([*known, given.other or frozenset()])] if meets(key, STRING) else []
    return [one for one in map(given.member, names) if one is not None]


def member_names(given: Type) -> list[str]:
    """The names of the members that objects are written out with."""
    return sorted(
        name
        for one in given
        if isinstance(one, Object) and not one.meaning
        for name, _ in one.members
    )


def string_values(given: Type) -> frozenset[str] | None:
    """The texts that a value can be, where they are all known and it can be nothing else."""
    values: set[str] = set()
    for atom in given:
        if not isinstance(atom, Scalar) or atom.kind != "string" or atom.values is None:
            return None
        values |= atom.values
    return frozenset(values)


def meets(left: Type, right: Type) -> bool:
    """Whether two values can be equal."""
    return any(_meets(a, b) for a in left for b in right)


def _meets(a: Atom, b: Atom) -> bool:
    if isinstance(a, Anything) or isinstance(b, Anything):
        return True
    if a.kind != b.kind:
        return False
    if isinstance(a, Scalar) and isinstance(b, Scalar):
        return a.values is None or b.values is None or bool(a.values & b.values)
    if isinstance(a, Object) and isinstance(b, Object):
        return _fits(a, b) and _fits(b, a)
    return True  # collections can both be empty


def _fits(a: Object, b: Object) -> bool:
    """Whether `b` can have a literal's members; members that a schema knows may be absent."""
    if a.meaning:
        return all(b.member(name) is not None for name in a.required)
    others = [(name, one, b.member(name)) for name, one in a.members]
    return all(other is not None and meets(one, other) for _, one, other in others)


def kinds(given: Type) -> str:
    """A type for people, such as `a string or null`."""
    articles = {"null": "null", "any": "anything", "array": "an array", "object": "an object"}
    return " or ".join(sorted({articles.get(a.kind, f"a {a.kind}") for a in given}))


def holds(given: Type, meaning: str) -> bool:
    """Whether a value is, or has somewhere in it, an object of a meaning such as `action`."""
    for atom in given:
        if isinstance(atom, Items) and holds(atom.item, meaning):
            return True
        if isinstance(atom, Object):
            inner = [one for _, one in atom.members] + [atom.other or frozenset()]
            if atom.meaning == meaning or any(holds(one, meaning) for one in inner):
                return True
    return False
