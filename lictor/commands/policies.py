"""`lictor policies`: check, build, sign and test the Rego."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from bundles.build.policies import product_folder
from bundles.opa_binary import find_opa
from bundles.store import Store
from lictor.console import Common
from lictor.settings import require
from lictor.state import build_policies

policies = App(name="policies", help="The Rego: check, build, sign, test.")

_DEFAULT = Common()


@policies.command(name="build")
def build(
    *,
    sign: Annotated[bool, Parameter(negative="")] = False,
    output: Path | None = None,
    common: Common = _DEFAULT,
) -> None:
    """Check the product's and the site's rules, and build their bundles.

    Args:
        sign: sign them and hand them to `lictor serve`; without it they are only checked.
        output: the folder to write them to, in place of the one that `lictor serve` looks in.
        common: the flags that every command has.
    """
    if sign:
        require(common.settings)
    built = build_policies(common.settings, find_opa(), sign=sign)
    if sign:
        store = Store(output or common.settings.bundles)
        for bundle in built:
            store.save(bundle)
    common.show([{"bundle": b.name, "revision": b.revision, "signed": sign} for b in built])


@policies.command(name="test")
def run_tests(*, common: Common = _DEFAULT) -> None:
    """Run the site's own Rego tests, with `opa test`."""
    folders = [str(product_folder() / "lictor"), str(common.settings.site)]
    said = find_opa().run("test", "--run=^data\\.site", *folders)
    sys.stdout.write(said.decode())
