"""A whole lictor with a Redis, and the PDPs of MCP servers on it."""

import asyncio

from support.stack import until

from pdp_client.bearer.opaque import digest
from pdp_client.opa.transport import open_transport
from pdp_client.shared import Shared


class CountingTransport:
    """The real transport, and how often it was taken; `open` lets questions through."""

    def __init__(self, transport):
        self._transport = transport
        self.asked, self.answered = [], []
        self.under_way = self.most = 0
        self.open = asyncio.Event()
        self.open.set()

    async def query(self, entrypoint, question):
        self.asked.append(question)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
            answer = await self._transport.query(entrypoint, question)
            self.answered.append(question)
            return answer
        finally:
            self.under_way -= 1

    async def aclose(self):
        await self._transport.aclose()


class World:
    """A lictor with a Redis, and MCP servers' PDPs on it."""

    def __init__(self, stack, server, announcer):
        self.stack = stack
        self.redis = server
        self.announcer = announcer
        self.transports = {}

    def pdp(self, **changes):
        address = self.stack.opa.settings.address
        token = (self.stack.opa.settings.folder / "client.token").read_text().strip()
        transport = CountingTransport(open_transport(address, token=token))
        changes.setdefault("shared", self.shared())
        pdp = self.stack.pdp(opa_transport=transport, opa_url=address, **changes)
        self.transports[pdp] = transport
        return pdp

    def shared(self, **changes):
        return Shared(
            self.redis.url, key_file=self.stack.settings.newest_key, **{"timeout": 5, **changes}
        )

    def asked(self, pdp):
        return len(self.transports[pdp].asked)

    async def told(self):
        """As a command does it that has written: Redis knows, and nobody has published it yet."""
        await self.announcer.announce(self.stack.registry)

    async def cached(self, pdp, bearer, **call):
        """Wait until such a call is answered from what is remembered."""

        async def hit():
            decision = await pdp.authorize(bearer, **{"tool": "search", **call})
            return decision if decision.cached else None

        return await until(hit, "a call is answered from the cache")


async def a_token(world, **changes):
    bearer = await world.stack.token(**changes)
    await world.told()
    await world.stack.settle()
    return bearer


async def revoke(world, bearer):
    await world.stack.operator.revoke_token(digest(bearer))
    await world.told()
