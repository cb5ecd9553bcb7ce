"""lictor, and the same OPA through other clients, as contestants."""

import json

import aiohttp
from opa_client.opa_async import AsyncOpaClient

from bench.cases import Outcome
from bench.cost import Tapped
from bench.sampling import batch_of
from bundles.opa.server import client_token_file

_QUERY = {"strict-builtin-errors": "true"}


def outcome_of(result):
    return Outcome(result["allow"], result["libraries"])


class LictorCalls:
    """Decisions of one PDP."""

    def __init__(self, pdp):
        self._pdp = pdp

    async def is_kept(self, case):
        """Whether the decision is in the cache by now."""
        return (await self._pdp.authorize(case.bearer, tool=case.tool)).cached

    async def decide(self, case):
        decision = await self._pdp.authorize(case.bearer, tool=case.tool)
        return Outcome(decision.allow, list(decision.libraries or ()))

    def batch(self, case):
        async def call():
            decision = await self._pdp.authorize(case.bearer, tool=case.tool)
            assert decision.allow, decision.reason

        return batch_of(call)


class OPACalls:
    """Queries to OPA with an input that is ready, and nothing after the response."""

    def __init__(self, made, pdp_input):
        self._input = pdp_input
        self._token = client_token_file(made.opa.folder).read_text()
        self._made = made
        self._headers = {"Authorization": f"Bearer {self._token}"}

    async def aclose(self):
        await self._client.close_connection()
        await self._session.close()
        await self._unix.close()

    async def open(self):
        self._client = AsyncOpaClient("127.0.0.1", self._made.tcp, token=self._token, retries=0)
        await self._client.__aenter__()
        self._session = aiohttp.ClientSession(headers=self._headers)
        self._unix = aiohttp.ClientSession(
            headers=self._headers, connector=aiohttp.UnixConnector(path=self._made.socket)
        )
        return self

    async def through_client(self, case):
        body = await self._client.query_rule(self._input(case), "lictor", "decision", _QUERY)
        return outcome_of(body["result"])

    async def through_aiohttp(self, case):
        return await self._post(self._session, f"http://127.0.0.1:{self._made.tcp}", case)

    async def through_aiohttp_unix(self, case):
        return await self._post(self._unix, "http://opa", case)

    async def _post(self, session, url, case):
        async with session.post(
            f"{url}/v1/data/lictor/decision", params=_QUERY, json={"input": self._input(case)}
        ) as response:
            response.raise_for_status()
            return outcome_of((await response.json())["result"])


def batch(ask, case):
    async def call():
        assert (await ask(case)).allow

    return batch_of(call)


async def bytes_of(made, case):
    """The request that lictor sends for a case, as bytes, and its input."""
    transport = Tapped(made.socket, token=client_token_file(made.opa.folder).read_text())
    await made.pdp(opa_transport=transport).authorize(case.bearer, tool=case.tool)
    return transport.request, json.loads(transport.request.partition(b"\r\n\r\n")[2])["input"]
