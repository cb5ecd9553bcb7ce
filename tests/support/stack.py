"""A whole lictor on one machine: registry, publisher, bundle server, and a real OPA."""

import asyncio
import os
import shutil
import subprocess
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bundles.fleet.credentials import InstanceCredentials
from bundles.opa.server import OPASettings, client_token_file, command, environment, prepare
from lictor.keys import KeyFolder
from lictor.server import serving
from lictor.settings import Settings, read_secret
from pdp_client import PDP, Action
from pdp_client.bearer.opaque import digest, mint_opaque
from registry.operations import Operator

PATIENCE = 20.0
"""Seconds after which a condition that a test waits for counts as not met."""


async def until(condition, what, *, patience=PATIENCE):
    """Wait for a condition (a function, async or not) to hold, and return what it returned."""
    latest = time.monotonic() + patience
    while True:
        held = condition()
        if asyncio.iscoroutine(held):
            held = await held
        if held:
            return held
        assert time.monotonic() < latest, f"not within {patience} s: {what}"
        await asyncio.sleep(0.01)


@dataclass
class OPAProcess:
    """An OPA that a test may kill."""

    binary: object
    settings: OPASettings
    process: subprocess.Popen | None = None

    def start(self):
        prepare(self.settings)
        log = (self.settings.folder / "opa.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                command(self.binary, self.settings),
                env=environment(os.environ),
                stdout=log,
                stderr=log,
            )

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def log(self):
        return (self.settings.folder / "opa.log").read_text()


class Stack:
    """Everything between `lictor` and a decision; see the fixture `stack`."""

    def __init__(self, settings, opa_binary, *, address=None, bundles=None):
        self.settings = settings
        self._binary = opa_binary
        self._address = address or settings.opa_url
        self._bundles = bundles
        self._exit = AsyncExitStack()
        self.keys = KeyFolder(settings.keys)

    async def __aenter__(self):
        self.serving = await self._exit.enter_async_context(serving(self.settings))
        self.registry = self.serving.registry
        self.publisher = self.serving.publisher
        self.operator = Operator(self.registry, actor="tests")
        self.opa = self.new_opa("opa-1", address=self._address)
        self.opa.start()
        await self.settle()
        return self

    async def __aexit__(self, *exc):
        await self._exit.aclose()

    def new_opa(self, id_, *, address=None):
        folder = self.settings.state / ("opa" if id_ == "opa-1" else id_)
        shards = range(len(self.publisher.bases.published.since))
        names = ["policy", "site", "live", "heartbeat", *(f"base-{n:02x}" for n in shards)]
        opa = OPAProcess(
            self._binary,
            OPASettings(
                id=id_,
                folder=folder,
                address=address or f"unix://{folder / 'opa.sock'}",
                bundles_url=self.serving.url,
                bundles_bearer=InstanceCredentials.load(self.settings.instances_key).bearer(id_),
                policy_key=(self.settings.bundle_keys / "policy.pub.pem").read_text(),
                data_key=(self.settings.bundle_keys / "data.pub.pem").read_text(),
                bundles=self._bundles or names,
            ),
        )
        self._exit.callback(opa.kill)
        return opa

    def pdp(self, opa=None, **kwargs):
        """A PDP for this stack's OPA; closed with the stack."""
        opa = opa or self.opa
        kwargs.setdefault("opa_url", opa.settings.address)
        kwargs.setdefault("opa_token_file", client_token_file(opa.settings.folder))
        kwargs.setdefault("deadline", 5)
        kwargs.setdefault("verifier", self.keys.verifier())
        pdp = PDP(**kwargs)
        self._exit.push_async_callback(pdp.aclose)
        return pdp

    async def settle(self, opa=None):
        """Publish what the registry holds, and wait until OPA answers from it."""
        await self.publisher.sync()
        version = self.publisher.version
        pdp = self.pdp(opa)

        async def caught_up():
            seen = await pdp.visible(None, actions=[Action(name="x")])
            return seen.reason in {"missing_token", "lockdown"} and (seen.epoch, seen.revision) >= (
                version.epoch,
                version.revision,
            )

        await until(caught_up, f"OPA answers from {version}")

    async def user(self, user_id, **kwargs):
        return (await self.operator.add_user(user_id, **kwargs)).record

    async def library(self, uid, workspace, **kwargs):
        """A library, in a workspace that is made if it is not there."""
        from registry import Workspace

        if await self.registry.get(Workspace, workspace) is None:
            await self.operator.add_workspace(workspace)
        return (await self.operator.add_library(uid, workspace=workspace, **kwargs)).record

    async def token(self, user="ada", *, tools=("*",), libraries=(), expires_at=None):
        """A new opaque token's bearer."""
        bearer = mint_opaque()
        await self.operator.create_token(
            digest(bearer), user=user, tools=tools, libraries=libraries, expires_at=expires_at
        )
        return bearer

    async def team(self, name="Docs", *, owner="ada", workspaces=(), tools=("*",)):
        """A new team, and its JWT."""
        done = await self.operator.create_team(
            name, owner=owner, workspaces=workspaces, tools=tools
        )
        return done.record, await self.team_jwt(done.record)

    async def team_jwt(self, team, **kwargs):
        from registry import Key

        active = [key.kid for key in await self.registry.all(Key) if key.active]
        return self.keys.mint_team(team.id, jti=team.active_jti, active_kids=active, **kwargs)


def fresh_settings(template, folder, **changes):
    """A copy of an initialised state directory, and the settings for it."""
    shutil.copytree(template, folder)
    return Settings(state=folder, bundles_url="http://127.0.0.1:0", **changes)


__all__ = ["OPAProcess", "Path", "Stack", "fresh_settings", "read_secret", "until"]
