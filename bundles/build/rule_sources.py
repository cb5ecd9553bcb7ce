"""The rules that mutants are made of, and what their tests need beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundles.build.policies import product_folder, product_sources
from bundles.build.site_folder import read_site
from bundles.exceptions import MutationError

_READ = {".rego", ".json", ".yaml", ".yml"}


@dataclass(frozen=True, slots=True)
class RuleSources:
    """Rules to make mutants of, and what their tests need beside them.

    Attributes:
        root: the folder of the rules.
        prefix: what stands before the rules' paths in `files`.
        folders: the folders that `opa test` is given.
        files: each file's content.
    """

    root: Path
    prefix: str
    folders: Sequence[str]
    files: Mapping[str, bytes]

    @classmethod
    def of_site(cls, folder: Path) -> "RuleSources":
        """A site's rules and tests, with lictor's rules beside them.

        Raises:
            PolicyRefusedError: the folder cannot be read.
        """
        site = read_site(folder)
        files = {file.name: file.content for file in product_sources("lictor")}
        files |= {f"site/{file.name}": file.content for file in [*site.rules, *site.tests]}
        return cls(folder, "site/", ["lictor", "site"], files)

    @classmethod
    def of_product(cls) -> "RuleSources":
        """The product's own rules and tests, with the table of cases beside them.

        Raises:
            MutationError: this is not a checkout of lictor, so the tests are not here.
        """
        policies = product_folder()
        cases = policies.parent / "tests" / "cases"
        if not cases.is_dir():
            raise MutationError(
                "lictor's own tests are not here. Run this in a checkout of lictor."
            )
        parts = ["lictor", "local", "site", "system"]
        files = _read_folder(cases, "cases/")
        for part in parts:
            files |= _read_folder(policies / part, f"policies/{part}/")
        folders = [*(f"policies/{part}" for part in parts), "cases"]
        return cls(policies, "policies/", folders, files)

    def rules(self) -> Iterator[tuple[str, bytes]]:
        """The files that mutants are made of, by their path below the root."""
        for path, content in self.files.items():
            if path.startswith(self.prefix) and _is_rule_file(path):
                yield path.removeprefix(self.prefix), content


def _read_folder(folder: Path, prefix: str) -> dict[str, bytes]:
    """Read the Rego and the data in a folder of the product."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix in _READ and not hidden and path.is_file():
            contents[f"{prefix}{relative.as_posix()}"] = path.read_bytes()
    return contents


def _is_rule_file(path: str) -> bool:
    return path.endswith(".rego") and not path.endswith("_test.rego")
