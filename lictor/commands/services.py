"""`lictor init`, `serve`, `opa` and `registry`: the processes and their state."""

import asyncio
import getpass
import logging
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx2
import stamina
import structlog
from cyclopts import App, Parameter

from bundles.exceptions import BundleError
from bundles.fleet.credentials import InstanceCredentials
from bundles.opa.binary import find_opa
from bundles.opa.server import (
    OPASettings,
    bundles_token_file,
    command,
    environment,
    prepare,
)
from bundles.publish import policy_releases
from bundles.publish.store import Store
from lictor.admin import Admin
from lictor.console import Common, note
from lictor.exceptions import AlreadyRunningError, InvalidArgumentError, NotInitialisedError
from lictor.progress import PublicationProgress
from lictor.server import serving
from lictor.settings import Settings, read_secret, require
from lictor.sockets import listens
from lictor.state_dir import initialise, publish_policies
from registry.document import export_document, import_document

registry = App(name="registry", help="The registry as a whole.")

_DEFAULT = Common()
_EVERY_OPA_NEEDS = {*policy_releases.NAMES, "live", "heartbeat"}
_FIRST_WAIT, _RESTART_WAIT = 60.0, 2.0
"""Seconds that `lictor opa` waits for a `lictor serve` that does not answer."""


async def init(*, common: Common = _DEFAULT) -> None:
    """Make a state directory with keys, settings and an empty registry."""
    await initialise(common.settings, actor=getpass.getuser())
    common.show({"state": str(common.settings.state), "next": "lictor serve"})


async def serve(*, common: Common = _DEFAULT) -> None:
    """Publish the registry as signed bundles, and receive the status of each OPA, until stopped.

    Where no policy bundle has been built yet and the policy key is here, builds and signs it first.
    """
    _log_to_stderr()
    settings = common.settings
    require(settings)
    stop = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    log = structlog.get_logger("lictor.serve")
    built = all(Store(settings.bundles).path(name).exists() for name in policy_releases.NAMES)
    if not built and (settings.bundle_keys / "policy.pem").exists():
        log.info("building policies", site=str(settings.site))
        await asyncio.to_thread(lambda: publish_policies(settings, find_opa()))
    async with AsyncExitStack() as exit_:
        # One of several servers may publish everything at any time, so it does not show a bar.
        with PublicationProgress(bar=not settings.redis_url) as progress:
            running = await exit_.enter_async_context(serving(settings, progress=progress))
        if running.role.publishing:
            stamp = running.role.stamp
            log.info("serving", url=running.url, epoch=stamp.epoch, revision=stamp.revision)
        else:
            log.info("serving, one of several", url=running.url)
        stop_asked = asyncio.ensure_future(stop.wait())
        waits: list[asyncio.Future[Any]] = [stop_asked, running.finished]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        stop_asked.cancel()
        if running.finished.done():
            running.finished.result()


def opa(*, id: str | None = None, common: Common = _DEFAULT) -> None:  # noqa: A002 - the flag's name
    """Find or build OPA, and become it: hardened, on its socket, joined to `lictor serve`.

    Args:
        id: this instance's name in status reports; by default the host's.
        common: the flags that every command has.
    """
    settings = common.settings
    require(settings)
    binary = find_opa()
    name = id or socket.gethostname()
    folder = settings.opa_token_file.parent
    config = folder / "config.json"
    bearer = _instance_bearer(settings, name)
    try:
        # An OPA that kept its bundles need not wait; a new one waits for `lictor serve` to start.
        seconds = _RESTART_WAIT if config.exists() else _FIRST_WAIT
        names = _served(settings.bundles_url, bearer, seconds=seconds)
    except (httpx2.HTTPError, ValueError, KeyError) as error:
        if not config.exists():
            raise NotInitialisedError(
                f"lictor serve does not answer at {settings.bundles_url} ({type(error).__name__}), "
                "and this OPA has never been joined to it"
            ) from None
        note("lictor serve does not answer; OPA starts from the bundles that it has kept")
        names = []
    except _NothingYetError:
        if not config.exists():
            raise
        note("lictor serve has nothing to serve yet; OPA starts from the bundles that it has kept")
        names = []
    told = OPASettings(
        id=name,
        folder=folder,
        address=settings.opa_url,
        bundles_url=settings.bundles_url,
        bundles_bearer=bearer,
        policy_key=(settings.bundle_keys / "policy.pub.pem").read_text(),
        data_key=(settings.bundle_keys / "data.pub.pem").read_text(),
        bundles=names,
    )
    if listens(Path(settings.opa_url.removeprefix("unix://"))):
        # OPA would take over the socket, and the other OPA would go on unnoticed.
        raise AlreadyRunningError(f"an OPA listens at {settings.opa_url} already")
    if names:
        prepare(told)
    note(f"OPA {binary.version} from {binary.origin}, listening at {settings.opa_url}")
    sys.stderr.flush()
    arguments = command(binary, told)
    # Replaces this process, so that its supervisor supervises OPA.
    os.execve(arguments[0], arguments, environment(os.environ))  # noqa: S606 - no shell


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
    stamp = done.stamp
    common.show({"records": done.records, "epoch": stamp.epoch, "revision": stamp.revision})
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
        entries, stamp = await opened.verify_log(), await opened.stamp()
    common.show(
        {
            "entries": entries,
            "epoch": stamp.epoch,
            "revision": stamp.revision,
            "intact": True,
            "findings": [str(finding) for finding in findings],
        }
    )
    return int(any(not finding.fixed for finding in findings))


def _instance_bearer(settings: Settings, name: str) -> str:
    """Return this instance's own bearer: made here, or copied from the host of `lictor serve`."""
    brought = bundles_token_file(settings.opa_token_file.parent)
    if not settings.instances_key.exists() and brought.exists():
        return read_secret(brought)
    try:
        return InstanceCredentials.load(settings.instances_key).bearer(name)
    except ValueError as error:
        raise InvalidArgumentError(f"--id: {error}") from None


def _served(url: str, bearer: str, *, seconds: float) -> list[str]:
    """Return the names of the served bundles; wait for a `lictor serve` that is starting."""
    for attempt in stamina.retry_context(
        on=(httpx2.TransportError, _NothingYetError), attempts=None, timeout=seconds, wait_max=0.5
    ):
        with attempt:
            answer = httpx2.get(f"{url}/bundles", headers={"Authorization": f"Bearer {bearer}"})
            answer.raise_for_status()
            names: list[str] = answer.json()["bundles"]
            if not set(names) >= _EVERY_OPA_NEEDS:
                # One of several servers serves no bundles before the first has published, and
                # the rules come last: an OPA not configured to fetch them would never get any.
                raise _NothingYetError("lictor serve has nothing to serve yet")
    return names


class _NothingYetError(BundleError):
    """OPA's first bundle is missing; it may arrive at any moment."""

    code = "nothing_yet"


def _log_to_stderr() -> None:
    """Log one JSON object per line, also for the stdlib records of libraries."""
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Two servers that start and stop say nothing that `serving` does not.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
