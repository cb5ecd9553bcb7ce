"""Types of terms and expressions: of a rule's body, a comprehension's, an `every`'s."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bundles.build import types as t
from bundles.build import wording
from bundles.build.syntax import Module, Node
from bundles.build.types import ANY, Type

if TYPE_CHECKING:
    from bundles.build.inference import Inference

_PASSES = 4
"""How often a body is gone through until its variables settle: an expression may stand before the
one that binds its variables."""

_COMPARISONS = {
    "equal": "==", "neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=",
}  # fmt: skip


class RuleBody:
    """Expressions that share variables.

    Attributes:
        module: the file that they stand in.
    """

    def __init__(
        self, inference: "Inference", module: Module, outer: dict[str, Type] | None = None
    ) -> None:
        self.module = module
        self._inference = inference
        self._scope = dict(outer or {})
        # Which expression gave a variable its type; -1 for the variables of the body around it.
        self._binders = dict.fromkeys(self._scope, -1)

    def run(self, body: Sequence[Node]) -> None:
        """Go through the expressions until the variables settle, then once more for findings."""
        with self._inference.silence():
            for _ in range(_PASSES):
                before = dict(self._scope)
                for expression in body:
                    self._expression(expression)
                if self._scope == before:
                    break
        for expression in body:
            self._expression(expression)

    def bind(self, pattern: Node, given: Type, *, binder: int, shadow: bool = True) -> None:
        """Give the variables of a pattern the types of what they stand for.

        Args:
            pattern: a variable, or an array or object with variables in it.
            given: the type of what it is equal to.
            binder: the expression that says so; the first one that does keeps its say.
            shadow: whether it declares its variables (`:=`, `some`, a function's arguments), so
                that they hide rules, imports and variables of the body around.
        """
        match pattern["type"]:
            case "var":
                name = pattern["value"]
                declared = shadow and self._binders.get(name, -1) == -1
                if declared or (name not in self._binders and self._is_free(name)):
                    self._binders[name] = binder
                if self._binders.get(name) == binder:
                    self._scope[name] = given
            case "array":
                found = t.iterated(given)
                for one in pattern["value"]:
                    self.bind(one, found[1] if found else ANY, binder=binder, shadow=shadow)
            case "object":
                for key, one in pattern["value"]:
                    inner = t.member(given, self.type(key)) or ANY
                    self.bind(one, inner, binder=binder, shadow=shadow)
            case _:
                pass

    def type(self, term: Node) -> Type:
        """What a term can be."""
        value = term.get("value")
        match term["type"]:
            case "null" | "boolean" | "number" | "string" as kind:
                return t.constant(None if kind == "null" else value)
            case "array" | "set" as kind:
                return frozenset({t.Items(kind, t.union(map(self.type, value or [])))})
            case "object":
                return self._object(value or [])
            case "templatestring":
                return self._template(value or {})
            case "var" | "ref" | "call":
                return self._reference(term)
            case kind:
                return self._comprehension(kind, value or {})

    def _expression(self, expression: Node) -> None:
        for replaced in expression.get("with", []):
            # What is replaced is not followed any further.
            self.type(replaced["value"])
            self._inference.reads_arguments = True
        terms = expression["terms"]
        if isinstance(terms, list):
            self._call(expression, terms)
        elif "symbols" in terms:
            for symbol in terms["symbols"]:
                self._some(symbol)
        elif "domain" in terms:
            inner = RuleBody(self._inference, self.module, self._scope)
            patterns = [one for one in (terms["key"], terms["value"]) if one]
            inner._iterate(patterns, terms["domain"])
            inner.run(terms["body"])
        else:
            self.type(terms)
            if terms["type"] == "boolean" and not terms["value"]:
                self._found(terms, "false never holds, so the rule has no effect; delete it")

    def _some(self, symbol: Node) -> None:
        if symbol["type"] == "var":
            if self._binders.get(symbol["value"], -1) == -1:
                self._binders.pop(symbol["value"], None)
                self._scope[symbol["value"]] = ANY
        else:
            *patterns, collection = symbol["value"][1:]
            self._iterate(patterns, collection)

    def _iterate(self, patterns: Sequence[Node], collection: Node) -> None:
        given = self.type(collection)
        found = t.iterated(given)
        if found is None:
            self._found(collection, f"{t.kinds(given)} has no elements to range over")
            return
        self._note_actions_read(given)
        for pattern, one in zip(reversed(patterns), reversed(found), strict=False):
            self.bind(pattern, one, binder=id(pattern))
            self._compare(pattern, "in", self.type(pattern), one)

    def _object(self, pairs: Sequence[Sequence[Node]]) -> Type:
        members, other = [], []
        for key, value in pairs:
            key_type, one = self.type(key), self.type(value)
            self._pass_on(key_type)  # keys are not followed
            names = t.string_values(key_type)
            if names is not None and len(names) == 1:
                members.append((next(iter(names)), one))
            else:
                other.append(one)
        return frozenset({t.Object(tuple(members), t.union(other) if other else None)})

    def _template(self, value: Node) -> Type:
        for part in value["parts"]:
            if "terms" in part and isinstance(part["terms"], dict):
                self._pass_on(self.type(part["terms"]))
            elif "terms" in part:
                self._pass_on(self._call(part, part["terms"]))
            else:
                self._pass_on(self.type(part))
        return t.STRING

    def _comprehension(self, kind: str, value: Node) -> Type:
        inner = RuleBody(self._inference, self.module, self._scope)
        inner.run(value["body"])
        if kind == "objectcomprehension":
            self._pass_on(inner.type(value["key"]))
            return frozenset({t.Object((), inner.type(value["value"]))})
        item = inner.type(value["term"])
        return frozenset({t.Items("set" if kind == "setcomprehension" else "array", item)})

    def _reference(self, term: Node) -> Type:
        if term["type"] == "call":
            return self._call(term, term["value"])
        head, *rest = [term] if term["type"] == "var" else term["value"]
        given, used = self._head(head, rest)
        for part in rest[used:]:
            given = self._step(part, given)
        return given

    def _head(self, head: Node, rest: Sequence[Node]) -> tuple[Type, int]:
        """What a reference starts from, and how many of its parts that takes up."""
        if head["type"] != "var":
            return self.type(head), 0
        name = head["value"]
        if name in self._scope:
            return self._scope[name], 0
        full = self.module.aliases.get(name, (name,))
        if full[0] == "input":
            return self._constants(head, self._inference.input_type, full[1:]), 0
        if full[0] == "data":
            return self._data(head, list(full[1:]), rest)
        own = (*self.module.package, name)
        if self._inference.rule_type(own) is None:
            return ANY, 0
        return self._own(head, list(own), rest)

    def _constants(self, node: Node, given: Type, names: Sequence[Any]) -> Type:
        for name in names:
            given = self._step({**node, "type": "string", "value": name}, given)
        return given

    def _data(self, head: Node, path: list[Any], rest: Sequence[Node]) -> tuple[Type, int]:
        """`data.…`, whose first parts may come from an import."""
        names = path + [one["value"] if one["type"] == "string" else None for one in rest]
        if names[:1] == ["lictor"]:
            given = self._constants(head, self._inference.lictor, path[1:])
            return given, 0 if path else 1
        if names[:1] == ["site"] and names[1:2] != ["manifest"]:
            return self._own(head, path, rest)
        return ANY, len(rest)

    def _own(self, head: Node, path: list[Any], rest: Sequence[Node]) -> tuple[Type, int]:
        """A rule of the site, by as many parts as distinguish it from the others."""
        names, used = list(path), 0
        given = self._inference.rule_type(tuple(names))
        while used < len(rest) and given is not None and not self._inference.is_rule(tuple(names)):
            part = rest[used]
            self.type(part)
            names.append(part["value"] if part["type"] == "string" else None)
            used += 1
            given = self._inference.rule_type(tuple(names))
        if given is None:
            if not self._inference.functions(tuple(names)):
                self._found(head, wording.undefined([*path, *rest]))
            return ANY, len(rest)
        return given, used

    def _step(self, part: Node, given: Type) -> Type:
        """One more part of a reference: `.name`, `["name"]`, `[i]`."""
        if part["type"] == "var":
            keys = t.iterated(given)
            self.bind(part, keys[0] if keys else ANY, binder=id(part), shadow=False)
        key = self.type(part)
        if part["type"] != "string" or part["value"] == "arguments":
            self._note_actions_read(given)
        found = t.member(given, key)
        if found is None:
            self._found(part, wording.no_member(given, part))
            return ANY
        if wording.is_name(key):
            for value in filter(wording.looks_like_pattern, t.member_names(given)):
                self._found(part, wording.pattern_for_name(value))
        if part["type"] == "string" and (message := wording.misspelt_hint(given, part["value"])):
            self._found(part, message)
        return found

    def _call(self, node: Node, terms: Sequence[Node]) -> Type:
        operator, *arguments = terms
        name = ".".join(str(one["value"]) for one in operator["value"])
        match name:
            case "assign" | "eq":
                return self._unify(node, *arguments, declares=name == "assign")
            case "equal" | "neq" | "lt" | "lte" | "gt" | "gte":
                left, right = map(self.type, arguments)
                self._compare(node, _COMPARISONS[name], left, right)
                self._pass_on(left, right)
                return t.BOOLEAN
            case "internal.member_2" | "internal.member_3":
                return self._membership(node, arguments)
            case "object.get":
                return self._get(*arguments)
            case _:
                return self._apply(node, operator, name, arguments)

    def _unify(self, node: Node, left: Node, right: Node, *, declares: bool) -> Type:
        self.bind(left, self.type(right), binder=id(node), shadow=declares)
        if declares:
            return t.BOOLEAN
        self.bind(right, self.type(left), binder=id(node), shadow=False)
        first, second = self.type(left), self.type(right)
        self._compare(node, "=", first, second)
        if left["type"] != "var" and right["type"] != "var":
            self._pass_on(first, second)
        return t.BOOLEAN

    def _membership(self, node: Node, arguments: Sequence[Node]) -> Type:
        *wanted, given = map(self.type, arguments)
        found = t.iterated(given)
        if found is None:
            self._found(node, f"`in` looks into {t.kinds(given)}, which has no elements")
            return t.BOOLEAN
        self._note_actions_read(given)
        self._pass_on(*wanted)
        for one, item in zip(reversed(wanted), reversed(found), strict=False):
            self._compare(node, "in", one, item)
        return t.BOOLEAN

    def _get(self, subject: Node, key: Node, default: Node) -> Type:
        """`object.get`: with constant names it is a reference with a default."""
        given, fallback = self.type(subject), self.type(default)
        path = key["value"] if key["type"] == "array" else [key]
        if not all(one["type"] == "string" for one in path):
            self.type(key)
            self._pass_on(given)
            return ANY
        for one in path:
            given = self._step(one, given)
        return given | fallback

    def _apply(self, node: Node, operator: Node, name: str, arguments: Sequence[Node]) -> Type:
        own = [self.type(one) for one in arguments]
        path = self._path_of(operator)
        if path == ("lictor", "library"):
            declared: list[Type] = [t.STRING]
            result = t.member(self._inference.lictor, t.constant("library")) or ANY
        elif rules := self._inference.functions(path):
            declared = [ANY for _ in rules[0].head["args"]]
            result = self._inference.call(rules, own[: len(declared)])
        elif name in self._inference.builtins:
            declaration = self._inference.builtins[name]["decl"]
            declared = [t.from_declaration(one) for one in declaration.get("args", [])]
            result = t.from_declaration(declaration.get("result", {"type": "any"}))
            self._pass_on(*own[: len(declared)])
            self._check_arguments(node, name, own, declared)
            if name in {"or", "and", "minus"} and all(t.iterated(one) for one in own):
                result = own[0] | own[1] if name == "or" else own[0]
        else:
            self._pass_on(*own)
            return ANY
        if len(own) > len(declared):  # `f(x, result)`
            result = ANY if name == "walk" else result
            self.bind(arguments[-1], result, binder=id(node), shadow=False)
        return result

    def _path_of(self, operator: Node) -> tuple[Any, ...]:
        head, *rest = (one["value"] for one in operator["value"])
        first = self.module.aliases.get(head, (head,))
        return (*first[1:], *rest) if first[0] == "data" else (*self.module.package, head, *rest)

    def _check_arguments(
        self, node: Node, name: str, own: Sequence[Type], declared: Sequence[Type]
    ) -> None:
        for number, (given, wanted) in enumerate(zip(own, declared, strict=False), 1):
            if not t.meets(given, wanted):
                self._found(node, wording.wrong_argument(name, number, given, wanted))
        if message := wording.swapped_arguments(name, own):
            self._found(node, message)
        elif name in {"startswith", "endswith", "contains"} and t.meets(own[0], t.STRING):
            self._compare_names(node, own[0], own[1])

    def _compare(self, node: Node, operator: str, left: Type, right: Type) -> None:
        if t.is_any(left) or t.is_any(right):
            return
        if not {one.kind for one in left} & {one.kind for one in right}:
            self._found(node, f"`{operator}` compares {t.kinds(left)} with {t.kinds(right)}")
        elif operator in {"==", "=", "!=", "in"}:
            for message in wording.never_equal(left, right):
                self._found(node, message)
            self._compare_names(node, left, right)

    def _compare_names(self, node: Node, left: Type, right: Type) -> None:
        """A pattern where a name belongs: nothing that is compared has such a name."""
        for named, other in ((left, right), (right, left)):
            if wording.is_name(named):
                for value in filter(wording.looks_like_pattern, t.string_values(other) or ()):
                    self._found(node, wording.pattern_for_name(value))

    def _note_actions_read(self, given: Type) -> None:
        """Note that an action's member is read by a name that is not known here."""
        if any(isinstance(one, t.Object) and one.meaning in {"action", "input"} for one in given):
            self._inference.reads_arguments = True

    def use_as_key(self, term: Node) -> None:
        """Type a part of a rule's head: keys are not followed."""
        self._pass_on(self.type(term))

    def _pass_on(self, *given: Type) -> None:
        """Note that whole actions go where they are not followed."""
        if any(t.holds(one, "action") for one in given):
            self._inference.reads_arguments = True

    def _is_free(self, name: str) -> bool:
        """Whether a name is a variable here, and not a rule, an import, `input` or `data`."""
        if name in {"input", "data"} or name in self.module.aliases:
            return False
        return self._inference.rule_type((*self.module.package, name)) is None

    def _found(self, node: Node, message: str) -> None:
        self._inference.add(self.module, node, message)
