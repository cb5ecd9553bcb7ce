"""A deployment whose registry is a real Neo4j, behind a proxy as everything else."""

import asyncio
import json
import signal
from contextlib import aclosing

from registry import open_registry
from registry.document import import_document
from registry.operations import Operator
from tests.support.neo4j import running_neo4j
from tests.support.plain_opa import free_port

from .deployment import LIMIT, ProxiedDeployment
from .proxy import Relay


class GraphDeployment(ProxiedDeployment):
    """One `lictor serve` on a graph."""

    def shared_settings(self):
        return {"registry": f"bolt://127.0.0.1:{self.proxies['registry'].where}"}

    def graph(self):
        """The Neo4j, as a context."""
        return running_neo4j()

    async def _start(self):
        context = self.graph()
        self.neo4j = await asyncio.to_thread(context.__enter__)
        self._exit.push(context)
        # A server that the environment names is not ours to kill.
        self.neo4j.must_be_ours()
        self.proxies["registry"] = Relay(free_port(), int(self.neo4j.url.rpartition(":")[2]))
        # What `lictor init` writes, with the keys of the directory that this deployment is a copy of.
        public = json.loads((self._from / "keys" / "mnemosyne.public.jwks").read_text())["keys"]
        async with aclosing(await open_registry(self.neo4j.url)) as registry:
            await registry.check(fix=True)
            operator = Operator(registry, actor="tests")
            for key in public:
                await operator.add_key(key["kid"], alg=key["alg"])
            text = f"version: 1\nsettings:\n  staleness_limit: {LIMIT:g}\n"
            await import_document(registry, text, actor="tests")
        await super()._start()

    def signal_graph(self, number):
        """To the JVM."""
        self.neo4j._process.send_signal(number)

    async def __aexit__(self, *exc):
        if self.neo4j._process.poll() is None:
            self.signal_graph(signal.SIGCONT)
        await super().__aexit__(*exc)
