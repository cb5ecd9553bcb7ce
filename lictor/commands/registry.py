"""`lictor registry`: export, import, check and accept the registry as a whole."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import App, Parameter

from lictor.admin import Admin
from lictor.console import Common, note
from lictor.settings import require
from registry.document import export_document, import_document

registry = App(name="registry", help="The registry as a whole.")

_DEFAULT = Common()


@registry.command(name="export")
async def export_registry(file: Path | None = None, /, *, common: Common = _DEFAULT) -> None:
    """Write everything but secrets as YAML, to a file or standard output."""
    async with common.reading() as opened:
        text = await export_document(opened, actor=getpass.getuser())
    if file is None:
        sys.stdout.write(text)
    else:
        await anyio.Path(file).write_text(text, encoding="utf-8")


@registry.command(name="import")
async def import_registry(file: Path, /, *, common: Common = _DEFAULT) -> None:
    """Add and replace what a YAML file names, all of it or nothing; the rest stays as it is."""
    text = await anyio.Path(file).read_text(encoding="utf-8")
    async with common.reading() as opened:
        done = await import_document(opened, text, actor=getpass.getuser())
        await common.notifier.notify(opened)
    version = done.version
    common.show({"records": done.records, "epoch": version.epoch, "revision": version.revision})
    await common.wake()


@registry.command(name="accept")
async def accept(*, common: Common = _DEFAULT) -> None:
    """Let through what `lictor serve` holds: a store that lost much, or went back in time.

    After a restore this starts the registry's next epoch; nothing that was published before counts
    any more.
    """
    require(common.settings)
    done = await Admin(common.settings.admin_socket).accept(actor=getpass.getuser())
    if not done["accepted"]:
        note("nothing is held")
    common.show(done)


@registry.command(name="check")
async def check_registry(
    *, fix: Annotated[bool, Parameter(negative="")] = False, common: Common = _DEFAULT
) -> int:
    """Verify the chain of the change log from its beginning, and look for what is wrong.

    Exits with 1 when something is.

    Args:
        fix: make what a registry needs and the store lacks, such as a graph's indexes.
        common: the flags that every command has.
    """
    async with common.reading() as opened:
        findings = await opened.check(fix=fix)
        entries, version = await opened.verify_log(), await opened.version()
    common.show(
        {
            "entries": entries,
            "epoch": version.epoch,
            "revision": version.revision,
            "intact": True,
            "findings": [str(finding) for finding in findings],
        }
    )
    return int(any(not finding.fixed for finding in findings))
