"""Two `lictor serve`, one of which publishes, on one registry, one Redis and one store, each with an OPA and PDPs."""

import contextlib
import random
import shutil

from tests.support.waiting import until

from .deployment import MODES, ProxiedDeployment

THE_OTHER = " of the other"


class DeploymentPair(ProxiedDeployment):
    """A deployment with a second beside it."""

    modes = (*MODES, *(mode + THE_OTHER for mode in MODES))

    def shared_settings(self):
        return {
            "registry": f"sqlite:///{self.folder / 'registry.db'}",
            "artefacts_url": self.store.as_uri(),
        }

    @property
    def store(self):
        return self.folder / "store"

    def _make_folder(self):
        super()._make_folder()
        self.store.mkdir()
        shutil.copy(self.state / "registry.db", self.folder / "registry.db")

    async def _start(self):
        self.beside, self.writer = None, self
        await super()._start()
        self.beside = await self._exit.enter_async_context(
            ProxiedDeployment(self.binary, self._from, beside=self)
        )
        await self.healthy(patience=60)

    async def roles(self):
        """Which of them publishes, and which follows."""
        found = []

        async def reported():
            found[:] = []
            for one in (self, self.beside):
                with contextlib.suppress(Exception):
                    found.append(((await one.admin.status())["role"], one))
            return sorted(role for role, _ in found) == ["following", "publishing"]

        await until(reported, "one publishes, the other follows", patience=30)
        by_role = dict(found)
        return by_role["publishing"], by_role["following"]

    async def authorize(self, mode, bearer, argument=None):
        if self.beside and mode.endswith(THE_OTHER):
            return await self.beside.authorize(mode.removesuffix(THE_OTHER), bearer, argument)
        return await super().authorize(mode.removesuffix(THE_OTHER), bearer, argument)

    async def renew(self):
        await super().renew()
        await self.beside.renew()

    async def write(self, verb):
        if self.writer is self:
            return await super().write(verb)
        return await self.writer.write(verb)

    async def wake(self):
        said = await super().wake()
        return said or (await self.beside.wake() if self.beside else "")

    async def healthy(self, patience=20):
        self.writer = self
        await super().healthy(patience)
        if self.beside:
            await self.roles()

    async def pick(self, rng=random):
        """The one that publishes, the one that follows; commands go through the latter from now on."""
        publishing, following = await self.roles()
        self.writer = following
        return publishing, following
