"""A throw-away OPA that tries out a site's rules, unsigned, on the data that is published."""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2

from bundles.build.policies import build_policy, build_site
from bundles.opa.binary import OPA
from bundles.opa.server import OPASettings, client_token_file, command, environment, prepare
from bundles.publish.signing import Bundle, SigningKey, data_of, sign
from lictor.exceptions import ServeUnavailableError, TrialFailedError
from lictor.settings import Settings, read_secret
from lictor_common.text import printable

_SECONDS = 30.0
"""Seconds in which the temporary OPA must load the published bundles."""

_NOWHERE = "http://127.0.0.1:9"
"""OPA's bundle URL, which never answers: the discard port (RFC 863)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A running OPA.

    Attributes:
        url: its unix socket.
        token_file: holds the bearer that it asks for.
    """

    url: str
    token_file: Path


@asynccontextmanager
async def trial_opa(settings: Settings, opa: OPA, site: Path) -> AsyncIterator[Trial]:
    """Run an OPA with a site's rules from a folder until the context ends.

    It has the registry's bundles as `lictor serve` publishes them, and a heartbeat that accepts the
    rules under trial as well. Nothing of it is known to `lictor serve`.

    Raises:
        PolicyRefusedError: the rules would not be signed.
        ServeUnavailableError: `lictor serve` does not hand out what it publishes.
        TrialFailedError: OPA does not start, or cannot load the bundles.
    """
    key = SigningKey.generate("policy")
    rules = [
        await asyncio.to_thread(build_policy, opa, key),
        await asyncio.to_thread(build_site, opa, site, key),
    ]
    published = await _published(settings)
    bundles = {bundle.name: bundle.content for bundle in rules} | published
    bundles["heartbeat"] = _accepting(published["heartbeat"], rules, key).content
    with tempfile.TemporaryDirectory(prefix="lictor-", dir="/tmp") as name:
        folder = Path(name)
        setup = OPASettings(
            id="trial",
            folder=folder,
            address=f"unix://{folder / 'opa.sock'}",
            bundles_url=_NOWHERE,
            bundles_bearer="",
            policy_key=key.public_pem,
            data_key=(settings.bundle_keys / "data.pub.pem").read_text(),
            bundles=[*bundles],
        )
        prepare(setup)
        _keep(folder, bundles)
        log = folder / "opa.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command(opa, setup), env=environment(os.environ), stdout=output, stderr=output
            )
        try:
            trial = Trial(setup.address, client_token_file(folder))
            await _until_ready(trial, process, log)
            yield trial
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _published(settings: Settings) -> dict[str, bytes]:
    """The data bundles that `lictor serve` hands out, by name."""
    headers = {"Authorization": f"Bearer {read_secret(settings.bundles_token_file)}"}
    try:
        async with httpx2.AsyncClient(base_url=settings.bundles_url, headers=headers) as http:
            listed = (await http.get("/bundles")).raise_for_status().json()["bundles"]
            found = {}
            for name in set(listed) - {"policy", "site"}:
                answer = await http.get(f"/bundles/{name}.tar.gz")
                found[name] = answer.raise_for_status().content
    except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ServeUnavailableError(
            f"Cannot fetch what is published from {settings.bundles_url} ({type(error).__name__}). "
            "Is lictor serve running?"
        ) from None
    if not found.keys() >= {"live", "heartbeat"}:
        raise ServeUnavailableError(
            "lictor serve has published no bundle yet; try again in a moment"
        )
    return found


def _accepting(heartbeat: bytes, rules: list[Bundle], key: SigningKey) -> Bundle:
    """The published heartbeat, that lets the rules under trial run too."""
    document: dict[str, Any] = data_of(heartbeat)["registry"]["heartbeat"]
    for bundle in rules:
        document[bundle.name] = [*document.get(bundle.name, []), bundle.revision]
    return sign(
        "heartbeat",
        revision="trial",
        roots=["registry/heartbeat"],
        key=key,
        data=document,
        path="registry/heartbeat",
    )


def _keep(folder: Path, bundles: dict[str, bytes]) -> None:
    """Lay bundles down as an OPA keeps them, so that it starts with them and reports to no server.

    It activates what it kept in whatever order the rules need; single files it does not.
    """
    file = folder / "config.json"
    config = json.loads(file.read_text())
    del config["status"]
    config["bundles"]["heartbeat"]["signing"]["keyid"] = "policy"
    file.write_text(json.dumps(config))
    for name, content in bundles.items():
        kept = folder / "persisted" / "bundles" / name / "bundle.tar.gz"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)


async def _until_ready(trial: Trial, process: asyncio.subprocess.Process, log: Path) -> None:
    headers = {"Authorization": f"Bearer {read_secret(trial.token_file)}"}
    transport = httpx2.AsyncHTTPTransport(uds=trial.url.removeprefix("unix://"))
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://opa", headers=headers
    ) as http:
        with anyio.move_on_after(_SECONDS):
            while not await _is_ready(http):
                if process.returncode is not None:
                    code = process.returncode
                    raise TrialFailedError(f"OPA ended with exit code {code}: {_last_line(log)}")
                await anyio.sleep(0.05)
            return
    raise TrialFailedError(
        f"OPA could not load what is published within {_SECONDS:g} s: {_last_line(log)}"
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return printable(lines[-1]) if lines else "it printed nothing"


async def _is_ready(http: httpx2.AsyncClient) -> bool:
    try:
        answer = await http.get("/health?bundles")
    except httpx2.TransportError:  # it does not listen yet
        return False
    return answer.status_code == httpx2.codes.OK
