"""Deployments whose registry lies on a small disk of its own, which can be full. All else that is written lies elsewhere."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from registry import User
from tests.support.neo4j import running_neo4j
from tests.support.small_disk import small_disk

from .deployment import ProxiedDeployment
from .graph import GraphDeployment


class OnSmallDisk:
    """A deployment's registry on a small disk.

    Attributes:
        disk: the disk.
        written: ids of users that were written on a disk without room.
        refused: of users whose command failed, the id, and what it said.
        failures: what all commands said that failed.
    """

    disk = None

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.forget()

    def forget(self):
        """Begin another trial."""
        self.written, self.refused, self.failures = set(), {}, []

    async def write(self, verb):
        if said := await super().write(verb):
            self.failures.append(said)
        return said

    async def add(self, id_):
        """A user, as a command does; returns what went wrong, or nothing."""

        async def verb(operator):
            await operator.add_user(id_)
            self.written.add(id_)

        if said := await self.write(verb):
            self.refused[id_] = said
        return said

    def met(self):
        return len(self.refused)

    async def check_registry(self):
        """It holds what was written, nothing of what was refused, and is whole."""
        there = {user.id for user in await self.registry.all(User)}
        assert self.written <= there, f"written, and not there: {self.written - there}"
        reported = {id_ for id_, said in self.refused.items() if "is not known" not in said}
        # Of some the write took place, and what a command does after it failed.
        wrong = (reported - self.written) & there
        assert not wrong, f"refused, and there: {wrong}"
        await self.registry.verify_log()
        assert not (found := await self.registry.check()), found


class FileOnSmallDisk(OnSmallDisk, ProxiedDeployment):
    """The registry is an SQLite file."""

    def shared_settings(self):
        return {"registry": f"sqlite:///{self.disk.path / 'registry.db'}"}

    def _make_folder(self):
        super()._make_folder()
        # The log that SQLite writes first is 4 MB before it begins again.
        self.disk = self._exit.enter_context(small_disk(self.folder / "disk", 16))
        shutil.copy(self.state / "registry.db", self.disk.path)


class GraphOnSmallDisk(OnSmallDisk, GraphDeployment):
    """The registry is a Neo4j."""

    def graph(self):
        # A new Neo4j takes 2 MB, as its transaction logs are not allocated beforehand.
        folder = self._exit.enter_context(tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp"))
        self.disk = self._exit.enter_context(small_disk(Path(folder) / "disk", 64))
        return running_neo4j(folder=self.disk.path)

    async def restart_graph(self):
        self.neo4j.kill()
        await asyncio.to_thread(self.neo4j.start)

    async def __aexit__(self, *exc):
        # Nothing of it is kept: it need not end well, which takes long on a full disk.
        self.neo4j.end()
        await super().__aexit__(*exc)
