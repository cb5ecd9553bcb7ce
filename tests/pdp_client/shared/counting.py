"""PDPs that share their state, and count what they query OPA for."""

import asyncio

from support.deployment import Deployment
from support.waiting import until

from pdp_client.bearer.opaque import digest
from pdp_client.opa.transport import open_transport


class CountingTransport:
    """The real transport, which notes each query; while `open` is not set, queries wait."""

    def __init__(self, transport):
        self._transport = transport
        self.queries, self.answered = [], []
        self.under_way = self.most = 0
        self.open = asyncio.Event()
        self.open.set()

    async def query(self, entrypoint, query):
        self.queries.append(query)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
            answer = await self._transport.query(entrypoint, query)
            self.answered.append(query)
            return answer
        finally:
            self.under_way -= 1

    async def aclose(self):
        await self._transport.aclose()


class CountingDeployment(Deployment):
    """A deployment whose PDPs share their state, and count their queries."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.transports = {}

    def pdp(self, opa=None, **changes):
        settings = (opa or self.opa).settings
        token = (settings.folder / "client.token").read_text().strip()
        transport = CountingTransport(open_transport(settings.address, token=token))
        if "shared" not in changes:
            changes["shared"] = self.shared()
        pdp = super().pdp(opa, opa_transport=transport, **changes)
        self.transports[pdp] = transport
        return pdp

    def count_queries(self, pdp):
        """How many queries a PDP has sent to OPA."""
        return len(self.transports[pdp].queries)

    async def wait_until_cached(self, pdp, bearer, **call):
        """Wait until such a call is answered from the cache."""

        async def hit():
            decision = await pdp.authorize(bearer, **{"tool": "search", **call})
            return decision if decision.cached else None

        return await until(hit, "a call is answered from the cache")

    async def publish_token(self, **changes):
        """The bearer of a new token that OPA knows."""
        bearer = await self.create_token(**changes)
        await self.announce()
        await self.settle()
        return bearer

    async def revoke(self, bearer):
        """Revoke a token and announce it, as a command does; nothing is published yet."""
        await self.operator.revoke_token(digest(bearer))
        await self.announce()
