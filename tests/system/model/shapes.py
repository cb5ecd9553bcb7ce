"""The model's words: what a record of each kind looks like, what a pattern or a site's rule reaches.

From the contract alone, but for what `model` names as left open there; nothing of the product is imported.
"""

import re
from functools import cache

OTHERS = frozenset(
    (
        "completion/complete",
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "subscriptions/listen",
    )
)
SCHEMA = {
    "tokens": {"label": "text", "user": "text", "active": "flag", "expires_at": "moment", "libraries": "texts", "tools": "globs"},
    "teams": {"name": "text", "owner": "text", "active": "flag", "active_jti": "text", "workspaces": "texts", "tools": "globs"},
    "users": {"name": "text", "active": "flag"}, "keys": {"alg": "text", "active": "flag"},
    "workspaces": {"name": "text", "libraries": "texts"}, "libraries": {"name": "text", "tags": "texts"},
}  # fmt: skip
FITS = {
    "text": lambda value: isinstance(value, str),
    "flag": lambda value: isinstance(value, bool),
    "moment": lambda value: value is None or is_number(value),
    "texts": lambda value: isinstance(value, list) and strings(value) == value,
    "globs": lambda value: (
        FITS["texts"](value) and None not in map(regex_of, value) and all(map(is_cheap, value))
    ),
}


def is_number(value):
    """A JSON number; `true` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def strings(value):
    """The strings of a list; of anything else nothing."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def entry(value, *path):
    """What stands at a path of nested objects; None when any step is missing."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def fits(kind, record):
    """Whether a record has exactly its kind's fields, each of its type."""
    fields = SCHEMA[kind]
    return (
        isinstance(record, dict)
        and record.keys() == fields.keys()
        and all(FITS[form](record[name]) for name, form in fields.items())
    )


@cache
def regex_of(glob):
    """A glob without separators as a regular expression; None for one that is none."""
    regex, groups, rest = "", 0, glob
    while rest:
        sign, rest = rest[0], rest[1:]
        if sign == "\\" and rest:
            regex, rest = regex + re.escape(rest[0]), rest[1:]
        elif sign == "[" and (found := re.match(r"(!?)(\w-\w|\w+)\]", rest, re.ASCII)):
            regex, rest = f"{regex}[{'^' * len(found[1])}{found[2]}]", rest[found.end() :]
        elif sign in "\\[]" or (sign == "}" and not groups):
            return None
        else:
            groups += (sign == "{") - (sign == "}")
            known = {"*": ".*", "?": ".", "{": "(?:", "}": ")"} | ({",": "|"} if groups else {})
            regex += known.get(sign) or re.escape(sign)
    return None if groups else re.compile(regex, re.DOTALL)


def is_cheap(glob):
    """Whether OPA matches a glob in milliseconds, as the reference of `lictor` has it; it is one that `regex_of` takes."""
    plain = re.sub(r"\\.|\[!?(?:\\.|[^\]\\])*\]", "x", glob, flags=re.DOTALL)
    groups = re.findall(r"\{([^{}]*)\}", plain)
    outside = re.sub(r"\{[^{}]*\}", "", plain)
    in_the_way = outside.count("*") + sum(
        max(one.count("*") for one in group.split(",")) for group in groups
    )
    return (
        (len(glob) <= 256 or not re.search(r"[*?[{]", glob))
        and "{" not in outside
        and len(groups) <= 2
        and all(len(group.split(",")) <= 16 for group in groups)
        and in_the_way <= (1 if groups else 8)
    )


def matches(glob, text):
    """Whether a pattern matches the whole of a text."""
    return regex_of(glob).fullmatch(text) is not None


def granted(patterns, action):
    """Whether a pattern reaches the action: a tool by its name, all else behind its method and a colon."""
    method, name = action["method"], action["name"]
    if method == "tools/call":
        tools = [one for one in patterns if ":" not in one or one.partition(":")[0] not in OTHERS]
        return any(matches(pattern, name) for pattern in tools)
    mine = [one.removeprefix(method + ":") for one in patterns if one.startswith(method + ":")]
    return method in OTHERS and any(matches(pattern, name) for pattern in mine)


def refused_by_site(rules, actions, action):
    """Whether one of the site's rules refuses the action; `actions` are all actions of the query."""
    tags = {*action.get("tags", ())}
    same = {
        tag for other in actions if other["name"] == action["name"] for tag in other.get("tags", ())
    }
    return bool(
        tags & {*rules["tags"]} or same & {*rules["name_tags"]} or any(_hits(rule, action) for rule in rules["deny"])
    )  # fmt: skip


def _hits(rule, action):
    target, absent = entry(rule, "action"), object()
    if isinstance(target, str | dict) and all(
        isinstance(entry(rule, it), str) for it in ("code", "message")
    ):
        return (
            action["name"] == target
            if isinstance(target, str)
            else all(_has(action.get(name, absent), part) for name, part in target.items())
        )
    return True  # one that is not well formed was meant to refuse something


def _has(actual, part):
    """A member as a rule wants it; of a list all of these, in any order."""
    if isinstance(part, list) and isinstance(actual, list):
        return all(one in actual for one in part)
    return actual == part
