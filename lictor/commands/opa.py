"""`lictor opa`: become an OPA that fetches from `lictor serve`."""

import json
import os
import socket
import sys
from pathlib import Path

import httpx2
import stamina

from bundles.exceptions import BundleError
from bundles.fleet.credentials import InstanceCredentials
from bundles.opa.binary import find_opa
from bundles.opa.memory import collector_settings
from bundles.opa.server import OPASettings, bundles_token_file, command, environment, prepare
from bundles.publish import policy_releases
from lictor.console import Common, note
from lictor.exceptions import AlreadyRunningError, InvalidArgumentError, NotInitialisedError
from lictor.settings import Settings, read_secret, require
from lictor.sockets import listens

_DEFAULT = Common()
_EVERY_OPA_NEEDS = {*policy_releases.NAMES, "live", "heartbeat"}
_FIRST_WAIT, _RESTART_WAIT = 60.0, 2.0
"""Seconds that `lictor opa` waits for a `lictor serve` that does not answer."""


def opa(*, id: str | None = None, common: Common = _DEFAULT) -> None:
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
    setup = OPASettings(
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
        prepare(setup)
    note(f"OPA {binary.version} from {binary.origin}, listening at {settings.opa_url}")
    sys.stderr.flush()
    arguments = command(binary, setup)
    # Replaces this process, so that its supervisor supervises OPA.
    variables = environment(os.environ) | collector_settings(os.environ, _fetched(config))
    os.execve(arguments[0], arguments, variables)  # noqa: S606 - no shell


def _fetched(config: Path) -> list[str]:
    """The names of the bundles in OPA's configuration; none if OPA will not accept it."""
    try:
        return list(json.loads(config.read_text())["bundles"])
    except (OSError, ValueError, LookupError, TypeError):
        return []


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
