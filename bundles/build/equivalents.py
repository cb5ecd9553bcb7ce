"""Mutants that are listed as equivalent: no test can distinguish them from the rules.

The list is a YAML file, by default `.lictor/equivalent-mutants.yaml` in the folder of the rules:

```yaml
- reason: A token's record exists for a token alone, so the kind need not be compared again.
  mutants:
    - file: business_hours.rego
      rule: deny contains {"action": action.name} if {
      operator: drop-expression
      before: input.credential.kind == "token"
```

An entry is found by its file, its rule's first line, its operator and its texts, never by a line's
number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bundles.build.mutants import Mutant, squeeze
from bundles.exceptions import MutationError

DEFAULT_PATH = Path(".lictor") / "equivalent-mutants.yaml"
_TEXTS = ("file", "rule", "operator", "before", "after")


@dataclass(frozen=True, slots=True)
class EquivalentMutant:
    """One entry of the list.

    Attributes:
        identity: the file, the rule, the operator and the texts before and after.
        occurrence: which of several mutants that are alike in all of these; None for the only one.
        reason: why no test can distinguish them.
    """

    identity: tuple[str, ...]
    occurrence: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Matches:
    """What a list says of a set of mutants.

    Attributes:
        equivalent: the mutants that the list names, each with its reason.
        others: the mutants that it does not name.
        problems: the entries that name no mutant, or more than one, in words.
    """

    equivalent: Sequence[tuple[Mutant, str]]
    others: Sequence[Mutant]
    problems: Sequence[str]


def load_equivalents(path: Path) -> list[EquivalentMutant]:
    """Read a list.

    Raises:
        MutationError: it cannot be read, or an entry lacks its reason or another key.
    """
    try:
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise MutationError(
            f"{path} cannot be read ({type(error).__name__}). Correct it, or name another file."
        ) from None
    if not isinstance(groups, list | None):
        raise MutationError(f"{path} is not a list. Begin each entry with `- reason: …`.")
    return [
        entry
        for number, group in enumerate(groups or [], start=1)
        for entry in _entries(f"{path}, entry {number}", group)
    ]


def match_equivalents(entries: Iterable[EquivalentMutant], mutants: Sequence[Mutant]) -> Matches:
    """Find the mutants that a list names."""
    alike: dict[tuple[str, ...], list[Mutant]] = {}
    for mutant in mutants:
        alike.setdefault(mutant.identity, []).append(mutant)
    found: dict[int, tuple[Mutant, str]] = {}
    problems = []
    for entry in entries:
        named = [
            mutant
            for mutant in alike.get(entry.identity, [])
            if entry.occurrence in {None, mutant.occurrence}
        ]
        if len(named) == 1:
            found[id(named[0])] = (named[0], entry.reason)
            continue
        file, rule, operator, before, after = entry.identity
        problem = "matches no mutant any more. Remove it" if not named else (
            f"matches {len(named)} mutants. Add `occurrence: 1` to `occurrence: {len(named)}`"
        )  # fmt: skip
        problems.append(f"{file}: {operator} of `{before}` → `{after}` in `{rule}` {problem}.")
    others = [mutant for mutant in mutants if id(mutant) not in found]
    return Matches(list(found.values()), others, problems)


def _entries(where: str, group: Any) -> Iterable[EquivalentMutant]:
    if not isinstance(group, dict) or not _is_text(group.get("reason")):
        raise MutationError(f"{where} has no reason. Say why no test can tell it from the rules.")
    listed = group.get("mutants")
    if not isinstance(listed, list) or not listed or group.keys() != {"reason", "mutants"}:
        raise MutationError(f"{where} lists no mutants. Name them under `mutants`.")
    for mutant in listed:
        yield _entry(where, mutant, group["reason"])


def _entry(where: str, mutant: Any, reason: str) -> EquivalentMutant:
    known = {*_TEXTS, "occurrence"}
    required = {"file", "rule", "operator"}
    if not isinstance(mutant, dict) or not required <= mutant.keys() <= known:
        raise MutationError(
            f"{where} has a mutant without file, rule or operator, or with an unknown key. "
            f"The keys are {', '.join(sorted(known))}."
        )
    texts = [mutant.get(key, "") for key in _TEXTS]
    occurrence = mutant.get("occurrence")
    if not all(isinstance(text, str) for text in texts) or not isinstance(occurrence, int | None):
        raise MutationError(f"{where} has a value of the wrong type. Put texts into quotes.")
    file, *rest = texts
    return EquivalentMutant((file, *map(squeeze, rest)), occurrence, reason)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
