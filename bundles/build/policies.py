"""The policy and site bundles: checked, then signed; what is checked is what is signed.

`policy` is the product's Rego (roots `lictor`, `system/authz`, `system/log`); `site` is a folder
that a security team edits (root `site`). Both are signed with the policy key, in CI as a rule.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bundles.build import syntax
from bundles.build.report import RuleReport, concerns_of_arguments, describe
from bundles.build.site_folder import SiteFolder, SourceFile, read_site
from bundles.build.site_rules import Reads, inspect, misplaced_rules, unused_functions
from bundles.build.staging import CHECK_SECONDS, staged
from bundles.exceptions import OPAFailedError
from bundles.opa.binary import OPA
from bundles.publish.signing import Bundle, SigningKey, canonical_json, sign

_POLICY_ROOTS = ["lictor", "system/authz", "system/log"]


@dataclass(frozen=True)
class SiteRules:
    """A site's rules that have passed every check.

    Attributes:
        folder: the files, as they were read once.
        reads: what the rules may read.
        rules: what each rule does.
        unused: functions that nothing in force calls.
    """

    folder: SiteFolder
    reads: Reads
    rules: tuple[RuleReport, ...]
    unused: tuple[str, ...]

    @property
    def sources(self) -> dict[str, bytes]:
        """The files by their paths in the bundle."""
        return {f"site/{file.name}": file.content for file in self.folder.rules}

    @property
    def revision(self) -> str:
        """A digest over the rules."""
        return _revision(self.sources)


def product_folder() -> Path:
    """Where the product's Rego is: in the wheel beside this package, in a checkout at its top."""
    packed = Path(__file__).parent.parent / "_policies"
    return packed if packed.is_dir() else Path(__file__).parent.parent.parent / "policies"


def product_sources(*parts: str) -> list[SourceFile]:
    """The product's own Rego without its tests, by its path in the bundle."""
    return [
        SourceFile(str(path), path.relative_to(product_folder()).as_posix(), path.read_bytes())
        for part in parts
        for path in sorted((product_folder() / part).rglob("*.rego"))
        if not path.name.endswith("_test.rego")
    ]


def build_policy(opa: OPA, key: SigningKey) -> Bundle:
    """Check and sign the product's own rules.

    Raises:
        PolicyRefusedError: they fail a check.
    """
    files = product_sources("lictor", "system")
    _check(opa, files)
    sources = {file.name: file.content for file in files}
    revision = _revision(sources)
    # `lictor serve` writes records as JSON in strings once no rules without this are accepted.
    data = {"lictor": {"manifest": {"revision": revision, "decodes_records": True}}}
    return sign("policy", revision=revision, roots=_POLICY_ROOTS, key=key, data=data, rego=sources)


def build_site(opa: OPA, folder: Path, key: SigningKey) -> Bundle:
    """Check and sign a site's rules; an empty folder is a site without rules.

    Raises:
        PolicyRefusedError: as `check_site`.
    """
    return sign_site(check_site(opa, folder), key)


def sign_site(rules: SiteRules, key: SigningKey) -> Bundle:
    """Sign rules that have been checked."""
    manifest = {"revision": rules.revision, **asdict(rules.reads)}
    concerns = concerns_of_arguments(rules.rules)
    if concerns is not None:
        manifest["concerns"] = [asdict(one) for one in concerns]
    data = {"site": {"manifest": manifest}}
    return sign(
        "site", revision=rules.revision, roots=["site"], key=key, data=data, rego=rules.sources
    )


def check_site(opa: OPA, folder: Path) -> SiteRules:
    """Read a site's folder once, and check all that is to be signed.

    Raises:
        PolicyRefusedError: the folder or a file of it cannot be used; a file is not Rego; a rule
            reads what it may not, calls what reaches outside of OPA, or can have no effect; or the
            rules do not compile. The message names each place as `file:row:col`.
    """
    site = read_site(folder)
    modules = syntax.parse(opa, site.rules)
    tests = syntax.parse(opa, site.tests)
    # Before `opa check`, whose words for a rule in the wrong place are about recursion and types.
    schemas = product_folder() / "schemas"
    findings, reads = inspect(opa, modules, schemas)
    syntax.refuse([*findings, *misplaced_rules(tests)])
    _check(opa, product_sources("lictor"), site.rules)
    described = tuple(describe(opa, modules, tests, schemas))
    return SiteRules(site, reads, described, tuple(unused_functions(modules)))


def _check(opa: OPA, product: Sequence[SourceFile], site: Sequence[SourceFile] = ()) -> None:
    """Compile rules as strictly as OPA can, with nothing that reaches outside of it.

    Raises:
        PolicyRefusedError: they do not compile.
    """
    with staged(opa, product, site) as stage:
        try:
            opa.run(
                "check", "--strict", "--format=json", "--capabilities=capabilities.json",
                f"--schema={product_folder().resolve() / 'schemas'}", *stage.folders,
                cwd=stage.path, timeout=CHECK_SECONDS,
            )  # fmt: skip
        except OPAFailedError as error:
            syntax.refuse(syntax.findings_of(error, stage.files))
            raise


def _revision(sources: Mapping[str, bytes]) -> str:
    whole = canonical_json(
        {path: hashlib.sha256(text).hexdigest() for path, text in sources.items()}
    )
    return hashlib.sha256(whole).hexdigest()[:16]
