"""Whether a SQL query is limited to `:libraries`, as its syntax tree says."""

import re
from collections.abc import Iterator
from typing import Final

from sqlglot import errors, exp, parse

_PARAMETER: Final = re.compile(
    r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|--[^\n]*|/\*.*?\*/|::|:libraries\b)|:(\w+)""",
    re.DOTALL,
)
_DIALECTS: Final = ("sqlite", "postgres", "mysql")
_INNER: Final = frozenset({"", "INNER", "CROSS", "STRAIGHT_JOIN"})


def why_not_limited(query: str) -> str:
    """Return why a query cannot be shown to be limited to its libraries; empty if it is.

    Each SELECT of a UNION, and each UPDATE and DELETE, has `column IN (:libraries)` as a condition
    of its own in WHERE, or in the ON of an inner join, joined to others by AND alone; or it reads
    from a subquery that has. Any other use of `:libraries` is refused.
    """
    tree = _parsed(query)
    if tree is None:
        return "it cannot be read as one SQL statement"
    bounds = {id(one) for one in _bounds(tree)}
    uses = [one for one in tree.find_all(exp.Placeholder, exp.Parameter) if _is_libraries(one)]
    if not all(id(one.parent) in bounds for one in uses):
        return (
            "each `:libraries` must stand in a WHERE, as `column IN (:libraries)` and joined to "
            "other conditions by AND alone"
        )
    if any(_is_computed(one) for one in tree.find_all(exp.In) if id(one) in bounds):
        return "the column that it limits is made up by a subquery"
    if not all(_is_limited(one, bounds) for one in (tree, *tree.find_all(exp.DML))):
        return "it does not limit itself to its libraries, in each SELECT of a UNION and each write"
    if any(conflict.expressions for conflict in tree.find_all(exp.OnConflict)):
        return "it changes rows that it conflicts with, whatever library they are of"
    return ""


def _parsed(query: str) -> exp.Expr | None:
    # sqlglot takes a parameter named like a keyword, such as `:like`, for that keyword.
    query = _PARAMETER.sub(lambda found: found[1] or f":p_{found[2]}", query)
    for dialect in _DIALECTS:
        try:
            statements = parse(query, dialect=dialect)
        except (errors.SqlglotError, RecursionError):
            continue
        if len(statements) == 1 and isinstance(statements[0], exp.Expr):
            return statements[0]
    return None


def _is_libraries(node: exp.Expr) -> bool:
    return node.name == "libraries"


def _bounds(tree: exp.Expr) -> Iterator[exp.In]:
    for condition in tree.find_all(exp.Where, exp.Join):
        root = condition.this if isinstance(condition, exp.Where) else condition.args.get("on")
        drops_rows = isinstance(condition, exp.Where) or _is_inner(condition)
        if isinstance(root, exp.Expr) and drops_rows:
            yield from _conjuncts(root)


def _is_inner(join: exp.Expr) -> bool:
    # An outer join keeps rows that its condition does not hold for; an anti join keeps those alone.
    return isinstance(join, exp.Join) and not join.side and join.kind in _INNER


def _conjuncts(node: exp.Expr) -> Iterator[exp.In]:
    if isinstance(node, exp.And):
        for side in (node.left, node.right):
            yield from _conjuncts(side)
    elif isinstance(node, exp.Paren):
        yield from _conjuncts(node.this)
    elif (
        isinstance(node, exp.In)
        and isinstance(node.this, exp.Column)
        and len(node.expressions) == 1
        and _is_libraries(node.expressions[0])
    ):
        yield node


def _is_limited(node: exp.Expr, bounds: set[int]) -> bool:
    """Return whether the rows of a statement are limited by one of these bounds."""
    if isinstance(node, exp.SetOperation):
        return _is_limited(node.left, bounds) and _is_limited(node.right, bounds)
    if isinstance(node, exp.Subquery):
        return _is_limited(node.this, bounds)
    if isinstance(node, exp.Insert):
        source = node.args.get("expression")
        return isinstance(source, exp.Expr) and _is_limited(source, bounds)
    if any(id(one) in bounds for one in _own(node)):
        return True
    return any(_is_limited(source, bounds) for source in _sources(node))


def _is_computed(bound: exp.In) -> bool:
    """Return whether the bound's column is an expression's name in a subquery that it reads."""
    column, select = bound.this, bound.find_ancestor(exp.Select)
    if select is None:
        return False
    for source in _sources(select):
        if isinstance(source, exp.Select):
            for one in source.expressions:
                if one.alias_or_name == column.name and not isinstance(one.unalias(), exp.Column):
                    return not isinstance(one, exp.Star)
    return False


def _own(node: exp.Expr) -> Iterator[exp.In]:
    """Yield the bounds of a statement itself, without those of its subqueries."""
    where, joins = node.args.get("where"), node.args.get("joins") or []
    if isinstance(where, exp.Where):
        yield from _conjuncts(where.this)
    for join in joins:
        if isinstance(join.args.get("on"), exp.Expr) and _is_inner(join):
            yield from _conjuncts(join.args["on"])


def _sources(node: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the subqueries and common table expressions that a SELECT must read from."""
    first = node.args.get("from_") or node.args.get("from")
    inner = [one.this for one in node.args.get("joins") or [] if _is_inner(one)]
    tables = [first.this, *inner] if isinstance(first, exp.From) else inner
    for table in tables:
        if isinstance(table, exp.Subquery):
            yield table.this
        elif isinstance(table, exp.Table) and not table.db:
            yield from _common(node, table.name)


def _common(node: exp.Expr, name: str) -> Iterator[exp.Expr]:
    scope: exp.Expr | None = node
    while scope is not None:
        tables = scope.args.get("with_") or scope.args.get("with")
        common = isinstance(tables, exp.With) and not tables.args.get("recursive")
        for one in tables.expressions if tables and common else ():
            if one.alias == name:
                yield one.this
                return
        scope = scope.parent
