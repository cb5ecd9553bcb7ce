"""`lictor serve`: publish the registry, and receive the status of each OPA."""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from typing import Any

import structlog

from bundles.opa.binary import find_opa
from bundles.publish import policy_releases
from bundles.publish.store import Store
from lictor.console import Common
from lictor.progress import PublicationProgress
from lictor.server import serving
from lictor.settings import require
from lictor.state_dir import publish_policies

_DEFAULT = Common()


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
            version = running.role.version
            log.info("serving", url=running.url, epoch=version.epoch, revision=version.revision)
        else:
            log.info("serving, one of several", url=running.url)
        stop_asked = asyncio.ensure_future(stop.wait())
        waits: list[asyncio.Future[Any]] = [stop_asked, running.finished]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        stop_asked.cancel()
        if running.finished.done():
            running.finished.result()


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
