"""What benchmarks start: `lictor serve` and its OPAs, as processes."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bundles.fleet.credentials import InstanceCredentials
from bundles.opa.memory import collector_settings
from bundles.opa.server import OPASettings, client_token_file, command, prepare
from lictor.keys import KeyFolder
from pdp_client import PDP

_MB = 1024


def peak_mb(pid):
    """The most memory that a process has held, in MB, and its children with it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0  # it has just ended
    own = [int(line.split()[1]) / _MB for line in status if line.startswith("VmHWM")]
    return sum(own) + sum(peak_mb(int(child)) for child in children)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Fleet:
    """`lictor serve` and its OPAs, as processes."""

    def __init__(self, settings, binary, exit_, *, memory=""):
        self.settings = settings
        self.binary = binary
        self.memory = memory
        self.exit = exit_
        self.opas = []
        self.environment = {}

    def run(self, arguments, name, **environment):
        log = (self.settings.state / f"{name}.log").open("wb")
        process = subprocess.Popen(
            arguments, stdout=log, stderr=log, env={**os.environ, **self.environment, **environment}
        )

        def stop():
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

        self.exit.callback(stop)
        return process

    async def serve(self):
        """Start it, and return the seconds until everything was published."""
        began = time.monotonic()
        self.server = self.run(
            [sys.executable, "-m", "lictor", "serve", f"--state={self.settings.state}"], "serve"
        )
        peak = 0.0
        while not self.settings.admin_socket.exists():
            assert self.server.poll() is None, (self.settings.state / "serve.log").read_text()
            await asyncio.sleep(0.2)
            peak = max(peak, peak_mb(self.server.pid))
        return time.monotonic() - began, peak

    def opa(self, number, url, names, *, tcp=0):
        """Start an OPA that fetches these bundles; it listens on a TCP port too if one is given."""
        folder = self.settings.state / f"opa-{number}"
        setup = OPASettings(
            id=f"opa-{number}",
            folder=folder,
            address=f"unix://{folder / 'opa.sock'}",
            bundles_url=url,
            bundles_bearer=InstanceCredentials.load(self.settings.instances_key).bearer(
                f"opa-{number}"
            ),
            policy_key=(self.settings.bundle_keys / "policy.pub.pem").read_text(),
            data_key=(self.settings.bundle_keys / "data.pub.pem").read_text(),
            bundles=names,
        )
        prepare(setup)
        also = [f"--addr=127.0.0.1:{tcp}"] if tcp else []
        started = [*command(self.binary, setup), *also]
        limit = {"GOMEMLIMIT": self.memory} if self.memory else {}
        variables = collector_settings({**os.environ, **limit}, names)
        process = self.run(started, f"opa-{number}", **variables)
        self.opas.append((setup, process))
        return setup

    def pdp(self, setup, **changes):
        return PDP(
            opa_url=setup.address,
            opa_token_file=client_token_file(setup.folder),
            verifier=KeyFolder(self.settings.keys).verifier(),
            **{"deadline": 5, **changes},
        )


async def until(condition, what, seconds=600):
    latest = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < latest, what
        await asyncio.sleep(0.05)


def bundle_names(status):
    """All that an OPA has to fetch, by what `lictor status` says."""
    shards = [f"base-{n:02x}" for n in range(status["shards"])]
    return ["policy", "site", "live", "heartbeat", *shards]


def percentile(values, percent):
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
