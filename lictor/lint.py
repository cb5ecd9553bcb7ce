"""Names that match nothing: in rules, in grants, and among a server's tools."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bundles.build.policies import product_folder
from bundles.build.rule_kinds import TermKind
from bundles.build.rule_names import RuleName
from bundles.opa.binary import OPA
from lictor.mcp_components import ServerComponents

METHODS = {
    "completion/complete", "prompts/get", "resources/read", "resources/subscribe",
    "subscriptions/listen",
}  # fmt: skip
"""Methods whose grants begin with the method's name."""
_ALL_METHODS = sorted(METHODS | {"tools/call", "logging/setLevel"})
_CALL = "tools/call"
_SHOWN_HOLDERS = 3

# OPA decides what a pattern matches, and lictor's own rules what a grant reaches.
_QUERY = """{
  "glob": [i |
    some i, one in input.patterns; one.test == "glob"
    some value in input.values[one.kind]; glob.match(one.text, null, value)
  ],
  "regex": [i |
    some i, one in input.patterns; one.test == "regex"
    some value in input.values[one.kind]; regex.match(one.text, value)
  ],
  "reached": {grant: indices |
    # Made before the `with`: one that names the input that it replaces never ends.
    asked := {"credential": {"kind": "token"}, "actions": input.actions}
    some grant in input.grants
    indices := data.lictor._permitted with input as asked with data.lictor.caller.tools as [grant]
  }
}"""
_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "equal": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "part": str.__contains__,
}


@dataclass(frozen=True, slots=True)
class LintFinding:
    """A name that matches nothing, or a tool that no grant reaches.

    Attributes:
        where: a file and line, or the holders of a grant.
        kind: what the name names.
        name: the name.
        problem: what is wrong with it.
        suggestion: a name that is nearly the same, and there.
    """

    where: str | None
    kind: str
    name: str
    problem: str
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryNames:
    """The names in the registry.

    Attributes:
        libraries: the libraries, each with its tags.
        grants: the patterns of active teams and tokens, each with its holders.
    """

    libraries: Mapping[str, Sequence[str]]
    grants: Mapping[str, Sequence[str]]


def lint(
    opa: OPA, names: Sequence[RuleName], server: ServerComponents, registry: RegistryNames | None
) -> list[LintFinding]:
    """Compare names in rules and grants with the server and the registry.

    Args:
        opa: the binary.
        names: the names in the site's rules.
        server: what the MCP server offers.
        registry: libraries and grants; None for rules alone.
    """
    known = _known(server, registry)
    compared = [name for name in names if name.kind in known]
    grants = _judged(registry.grants if registry else (), server)
    answers = _evaluate(opa, compared, known, grants, server)
    matched = {*answers["glob"], *answers["regex"]}
    findings = [
        LintFinding(
            f"{name.file}:{name.row}", name.kind.value, name.text, _PROBLEMS[name.kind],
            _nearest(name.text, known[name.kind]),
        )
        for index, name in enumerate(compared)
        if not _is_met(name, known[name.kind]) and index not in matched
    ]  # fmt: skip
    if registry:
        findings += _of_grants(registry, grants, answers["reached"], server)
    return findings


_PROBLEMS = {
    TermKind.NAME: "nothing on this server has this name",
    TermKind.METHOD: "lictor decides no such method",
    TermKind.TAG: "nothing on this server has this tag",
    TermKind.LIBRARY: "the registry has no such library",
    TermKind.LIBRARY_TAG: "no library in the registry has this tag",
}


def _known(server: ServerComponents, registry: RegistryNames | None) -> dict[TermKind, list[str]]:
    known = {
        TermKind.NAME: server.names(),
        TermKind.TAG: server.tags(),
        TermKind.METHOD: _ALL_METHODS,
    }
    if registry:
        known[TermKind.LIBRARY] = sorted(registry.libraries)
        tags = {tag for tags in registry.libraries.values() for tag in tags}
        known[TermKind.LIBRARY_TAG] = sorted(tags)
    return known


def _judged(grants: Iterable[str], server: ServerComponents) -> list[str]:
    """The grants for methods whose components are all known."""
    methods = {grant: grant.partition(":")[0] for grant in grants}
    return sorted(
        grant
        for grant, method in methods.items()
        if (method if method in METHODS and ":" in grant else _CALL) in server.methods
    )


def _evaluate(
    opa: OPA,
    names: Sequence[RuleName],
    known: Mapping[TermKind, Sequence[str]],
    grants: Sequence[str],
    server: ServerComponents,
) -> dict[str, Any]:
    query = {
        "patterns": [
            {"kind": name.kind.value, "text": name.text, "test": name.test} for name in names
        ],
        "values": {kind.value: values for kind, values in known.items()},
        "grants": grants,
        "actions": [{"method": one.method, "name": one.name} for one in server.components],
    }
    said = opa.run(
        "eval", "--format=json", "--stdin-input",
        "--ignore=*_test.rego", f"--data={product_folder() / 'lictor'}", _QUERY,
        stdin=json.dumps(query).encode(),
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(said)["result"][0]["expressions"][0]["value"]
    return answer


def _is_met(name: RuleName, known: Sequence[str]) -> bool:
    test = _TESTS.get(name.test)
    return test is not None and any(test(one, name.text) for one in known)


def _of_grants(
    registry: RegistryNames,
    judged: Sequence[str],
    reached: Mapping[str, Sequence[int]],
    server: ServerComponents,
) -> list[LintFinding]:
    names = server.names()
    findings = [
        LintFinding(
            _holders(registry.grants[grant]), "grant", grant, "matches nothing on this server",
            _nearest(grant, names),
        )
        for grant in judged
        if not reached.get(grant)
    ]  # fmt: skip
    met = {index for indices in reached.values() for index in indices}
    findings += [
        LintFinding(None, "unreached", one.name, "no active team or token is granted this tool")
        for index, one in sorted(enumerate(server.components), key=lambda pair: pair[1].name)
        if one.method == _CALL and index not in met
    ]
    return findings


def _holders(holders: Sequence[str]) -> str:
    more = len(holders) - _SHOWN_HOLDERS
    shown = ", ".join(holders[:_SHOWN_HOLDERS])
    return f"{shown} and {more} more" if more > 0 else shown


def _nearest(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)
