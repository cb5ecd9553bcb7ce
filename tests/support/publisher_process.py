"""A server process that competes for the lease, as each of several `lictor serve` does, and a handle to break it.

Run as a program it prints one JSON object a line for each thing that happens.
"""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from contextlib import aclosing
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Process:
    """One of several servers, in a process of its own."""

    def __init__(self, name, **config):
        self.name = name
        self.events = []
        self._config = {"name": name, **config}
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.publisher_process", json.dumps(self._config)],
            stdout=subprocess.PIPE, cwd=ROOT, text=True,
        )  # fmt: skip
        threading.Thread(target=self._read, args=[self._process.stdout], daemon=True).start()
        return self

    def _read(self, lines):
        with lines:
            for line in lines:
                self.events.append(json.loads(line))

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self):
        """Terminate it, and wait."""
        self._process.terminate()
        assert self._process.wait(20) == 0
        self._process = None

    def freeze(self):
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)

    def published(self, name=None):
        """What it has published: name, revision, fence."""
        return [
            tuple(event["published"])
            for event in self.events
            if "published" in event and name in (None, event["published"][0])
        ]

    def served(self, name):
        """The revisions of a bundle that it has served, in order."""
        return [event["served"][1] for event in self.events if event.get("served", [""])[0] == name]

    @property
    def fence(self):
        """Of its term; 0 while it has none."""
        terms = [event["term"] for event in self.events if "term" in event]
        return terms[-1] if terms else 0


async def _main(config):
    from bundles.cluster.leader_loop import LeaderLoop
    from bundles.cluster.lease import Lease
    from bundles.cluster.message_bus import MessageBus
    from bundles.cluster.messages import bus_key
    from bundles.cluster.object_store import ObjectStore
    from bundles.cluster.redis_connection import connect
    from bundles.cluster.verify import BundleVerifier
    from bundles.fleet.tracker import FleetTracker
    from bundles.publish.publisher import Publisher
    from bundles.publish.signing import SigningKey
    from bundles.publish.store import Store
    from bundles.serve.served_bundles import ServedBundles
    from registry import open_registry

    def say(**event):
        print(json.dumps(event), flush=True)

    class ReportingBundles(ServedBundles):
        def put(self, bundle):
            super().put(bundle)
            say(served=[bundle.name, bundle.revision])

    keys = Path(config["keys"])
    key = SigningKey.load(keys / "data.pem")
    policy = SigningKey.load(keys / "policy.pem")
    redis, namespace = connect(config["redis"]), config["namespace"]
    async with (
        aclosing(await open_registry(config["registry"])) as registry,
        aclosing(redis),
    ):
        bus = MessageBus(redis, key=bus_key(key), namespace=namespace)
        served_bundles, store = ReportingBundles(), Store(Path(config["state"]) / config["name"])

        async def publish(fenced, term):
            put = fenced.put

            def reported(bundle):
                put(bundle)
                say(published=[bundle.name, bundle.revision, term.fence])

            fenced.put = reported
            say(term=term.fence)
            try:
                publisher = Publisher(
                    registry, store=store, served_bundles=fenced, key=key, fleet=FleetTracker()
                )
                await publisher.start()
                await publisher.run()
            finally:
                say(term=0)

        leader_loop = LeaderLoop(
            lease=Lease(redis, namespace=namespace, ttl=config["ttl"]),
            object_store=ObjectStore(config["artefacts"]),
            bus=bus,
            served_bundles=served_bundles,
            store=store,
            verifier=BundleVerifier(policy_key=policy.public_pem, data_key=key.public_pem),
            publish=publish,
        )
        running = asyncio.ensure_future(
            asyncio.wait_for(
                asyncio.gather(
                    leader_loop.run(), bus.run(announced=lambda _: leader_loop.request_sync())
                ),
                300,
            )
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        await asyncio.gather(running, return_exceptions=running.cancelled())


if __name__ == "__main__":
    try:
        asyncio.run(_main(json.loads(sys.argv[1])))
    except asyncio.CancelledError:
        sys.exit(0)
