"""The policy and site bundles: what is checked before they are signed, and what is read off them.

`policy` is the product's Rego (roots `lictor`, `system/authz`, `system/log`); `site` is a folder
that a security team edits (root `site`). Both are signed with the policy key, in CI as a rule.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundles.exceptions import OPAFailed, PolicyRefused
from bundles.opa_binary import OPA
from bundles.signing import Bundle, SigningKey, canonical, sign

FORBIDDEN = ("http.send", "opa.runtime", "net.", "rego.parse_module", "trace")
"""Builtins that a decision has no use for: they reach out, or tell about the host."""

READABLE = frozenset({"actions", "principal", "granted_libraries", "library"})
"""What a site rule may read of `data.lictor`. The rest depends on the site's rules in turn, or
would bypass the one way to a record."""

_POLICY_ROOTS = ["lictor", "system/authz", "system/log"]


@dataclass(frozen=True, slots=True)
class Reads:
    """What a site's rules may read, as found in their syntax trees; in doubt True.

    Attributes:
        clock: the time, or anything else that differs from one evaluation to the next.
        arguments: the arguments of a call.
        libraries: libraries' own records, beyond those that the decision rests on.
    """

    clock: bool = False
    arguments: bool = False
    libraries: bool = False


def product_folder() -> Path:
    """Where the product's Rego is: in the wheel beside this module, in a checkout at its top."""
    packed = Path(__file__).parent.parent / "_policies"
    return packed if packed.is_dir() else Path(__file__).parent.parent.parent / "policies"


def build_policy(opa: OPA, key: SigningKey) -> Bundle:
    """Check and sign the product's own rules.

    Raises:
        PolicyRefused: they fail a check.
    """
    folder = product_folder()
    sources = {
        path: text
        for part in ("lictor", "system")
        for path, text in _sources(folder / part, prefix=part).items()
    }
    _check(opa, [folder / "lictor", folder / "system"])
    revision = _revision(sources)
    data = {"lictor": {"manifest": {"revision": revision}}}
    return sign("policy", revision=revision, roots=_POLICY_ROOTS, key=key, data=data, rego=sources)


def build_site(opa: OPA, folder: Path, key: SigningKey) -> Bundle:
    """Check and sign a site's rules; an empty folder is a site without rules.

    Raises:
        PolicyRefused: a file is no Rego, has another package than `site` or below, reads what it
            must not, or does not compile with the restricted capabilities.
    """
    sources = _sources(folder, prefix="site")
    # Before `opa check`, whose words for a rule in the wrong place are about recursion and types.
    reads = inspect_site(opa, folder)
    _check(opa, [product_folder() / "lictor", folder])
    revision = _revision(sources)
    data = {"site": {"manifest": {"revision": revision, **asdict(reads)}}}
    return sign("site", revision=revision, roots=["site"], key=key, data=data, rego=sources)


def inspect_site(opa: OPA, folder: Path) -> Reads:
    """Look through the syntax trees of a site's rules.

    Raises:
        PolicyRefused: a package, a rule's form or a reference that a site may not have.
    """
    clocks = {name for name, builtin in _builtins(opa).items() if builtin.get("nondeterministic")}
    clock = arguments = libraries = False
    for path in _rego_files(folder):
        tree = _parse(opa, path)
        _check_package(path, tree)
        _check_heads(path, tree)
        aliases = _aliases(tree)
        for reference in _references(tree.get("rules", [])):
            dotted = ".".join(map(str, reference))
            clock = clock or dotted in clocks
            full = [*aliases.get(reference[0], [reference[0]]), *reference[1:]]
            libraries = libraries or _reads_library(path, full)
            arguments = arguments or _may_read_arguments(full)
        # Anywhere in a text: `json.filter` and its like take paths.
        arguments = arguments or any("arguments" in t for t in _strings(tree.get("rules", [])))
    return Reads(clock=clock, arguments=arguments, libraries=libraries)


def _check_package(path: Path, tree: Mapping[str, Any]) -> None:
    package = [term["value"] for term in tree["package"]["path"]][1:]
    if package[:1] != ["site"] or package[:2] == ["site", "manifest"]:
        raise PolicyRefused(
            f"{path}: package {'.'.join(package)}; a site's rules are in package site or below it"
        )


def _check_heads(path: Path, tree: Mapping[str, Any]) -> None:
    if len(tree["package"]["path"]) > 2:  # noqa: PLR2004 - below `site`; nobody asks for these
        return
    for rule in tree.get("rules", []):
        head = rule["head"]
        name = head["ref"][0]["value"]
        partial_set = "key" in head and "value" not in head and len(head["ref"]) == 1
        if name in {"deny", "hidden"} and not partial_set:
            raise PolicyRefused(f"{path}: `{name}` is a set, add to it with `{name} contains …`")
        if name == "manifest":
            raise PolicyRefused(f"{path}: `manifest` is written by `lictor policies build`")


def _reads_library(path: Path, reference: list[Any]) -> bool:
    if reference[0] != "data" or reference[1:2] == ["site"]:
        return False
    if reference[1:2] != ["lictor"] or reference[2:3] == [] or reference[2] not in READABLE:
        said = ".".join(part if isinstance(part, str) else "[…]" for part in reference)
        readable = ", ".join(sorted(READABLE))
        raise PolicyRefused(f"{path}: reads {said}; a site's rules read data.lictor.{{{readable}}}")
    return bool(reference[2] == "library")


def _may_read_arguments(reference: list[Any]) -> bool:
    """Whether a reference reaches the input so broadly that arguments may be in what it finds."""
    if reference[0] != "input":
        return False
    narrow = [
        ["credential"],
        ["context"],
        ["action", "name"],
        ["action", "method"],
        ["action", "tags"],
    ]
    return not any(reference[1 : 1 + len(path)] == path for path in narrow)


def _aliases(tree: Mapping[str, Any]) -> dict[str, list[Any]]:
    found = {}
    for entry in tree.get("imports", []):
        path = [term["value"] for term in entry["path"]["value"]]
        found[entry.get("alias") or path[-1]] = path
    return found


def _references(node: Any) -> Iterator[list[Any]]:
    """Every reference in a syntax tree, as its head and the constants behind it (else None)."""
    for child in _nodes(node):
        if child.get("type") == "ref":
            head, *rest = child["value"]
            yield [
                head["value"] if head["type"] == "var" else None,
                *(term["value"] if term["type"] == "string" else None for term in rest),
            ]
        elif child.get("type") == "var":
            yield [child["value"]]


def _strings(node: Any) -> set[str]:
    return {child["value"] for child in _nodes(node) if child.get("type") == "string"}


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        children: Any = node.values()
        if node.get("type") == "ref" and node["value"][0]["type"] == "var":
            # The head has been yielded with its reference, and is no variable by itself.
            children = node["value"][1:]
        for child in children:
            yield from _nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from _nodes(child)


def _parse(opa: OPA, path: Path) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = json.loads(opa.run("parse", "--format", "json", str(path)))
    except OPAFailed as error:
        raise PolicyRefused(str(error)) from None
    return tree


def _check(opa: OPA, folders: list[Path]) -> None:
    capabilities = json.loads(opa.run("capabilities", "--current"))
    capabilities["builtins"] = [
        builtin for builtin in capabilities["builtins"] if not builtin["name"].startswith(FORBIDDEN)
    ]
    capabilities["allow_net"] = []
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(canonical(capabilities))
        file.flush()
        try:
            opa.run(
                "check", "--strict", f"--capabilities={file.name}",
                f"--schema={product_folder() / 'schemas'}",
                "--ignore=*_test.rego", *map(str, folders),
            )  # fmt: skip
        except OPAFailed as error:
            raise PolicyRefused(str(error)) from None


def _builtins(opa: OPA) -> dict[str, dict[str, Any]]:
    capabilities = json.loads(opa.run("capabilities", "--current"))
    return {builtin["name"]: builtin for builtin in capabilities["builtins"]}


def _rego_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PolicyRefused(f"{folder}: no such folder")
    return sorted(path for path in folder.rglob("*.rego") if not path.name.endswith("_test.rego"))


def _sources(folder: Path, *, prefix: str) -> dict[str, bytes]:
    # OPA would load data files too, under a path that no check here has looked at.
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".yaml", ".yml"} and not path.name.startswith("."):
            raise PolicyRefused(f"{path}: only Rego goes into a policy bundle")
    return {
        f"{prefix}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in _rego_files(folder)
    }


def _revision(sources: Mapping[str, bytes]) -> str:
    whole = canonical({path: hashlib.sha256(text).hexdigest() for path, text in sources.items()})
    return hashlib.sha256(whole).hexdigest()[:16]
