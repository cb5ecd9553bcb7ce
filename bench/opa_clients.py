"""lictor, and the same OPA through other clients, as contestants."""

import json

import aiohttp
from opa_client.opa_async import AsyncOpaClient

from bench.cost import Tapped
from bench.questions import Answer
from bench.sampling import batch_of
from bundles.opa.server import client_token_file

_QUERY = {"strict-builtin-errors": "true"}


def answer_of(result):
    return Answer(result["allow"], result["libraries"])


class LictorCalls:
    """Decisions of one PDP."""

    def __init__(self, pdp):
        self._pdp = pdp

    async def is_kept(self, question):
        """Whether the decision is in the cache by now."""
        return (await self._pdp.authorize(question.bearer, tool=question.tool)).cached

    async def decide(self, question):
        decision = await self._pdp.authorize(question.bearer, tool=question.tool)
        return Answer(decision.allow, list(decision.libraries or ()))

    def batch(self, question):
        async def call():
            decision = await self._pdp.authorize(question.bearer, tool=question.tool)
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

    async def through_client(self, question):
        body = await self._client.query_rule(self._input(question), "lictor", "decision", _QUERY)
        return answer_of(body["result"])

    async def through_aiohttp(self, question):
        return await self._post(self._session, f"http://127.0.0.1:{self._made.tcp}", question)

    async def through_aiohttp_unix(self, question):
        return await self._post(self._unix, "http://opa", question)

    async def _post(self, session, url, question):
        async with session.post(
            f"{url}/v1/data/lictor/decision", params=_QUERY, json={"input": self._input(question)}
        ) as response:
            response.raise_for_status()
            return answer_of((await response.json())["result"])


def batch(ask, question):
    async def call():
        assert (await ask(question)).allow

    return batch_of(call)


async def bytes_of(made, question):
    """The request that lictor sends for a question, as bytes, and its input."""
    transport = Tapped(made.socket, token=client_token_file(made.opa.folder).read_text())
    await made.pdp(opa_transport=transport).authorize(question.bearer, tool=question.tool)
    return transport.request, json.loads(transport.request.partition(b"\r\n\r\n")[2])["input"]
