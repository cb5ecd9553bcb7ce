"""One small deployment of real processes, with a proxy between any two of them.

`lictor serve` and an OPA, a Redis, a registry, and PDPs as MCP servers have them: `strict` and `bounded`. It is
started once and serves many trials; each trial has callers of its own.
"""

import asyncio
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from bundles.opa.server import client_token_file, command, prepare
from lictor.admin import Admin
from lictor.exceptions import ServeUnavailableError
from lictor.notify import RevisionNotifier
from lictor.settings import Settings
from lictor.state_dir import initialise, publish_policies, registry_opener
from pdp_client import PDP
from pdp_client.record import FileRecord
from pdp_client.shared import Shared
from registry import RegistryError, open_registry
from registry.document import import_document
from registry.operations import Operator
from tests.support.deployment import Deployment
from tests.support.opa_process import opa_settings
from tests.support.plain_opa import free_port
from tests.support.redis import RedisServer
from tests.support.waiting import until

from .callers import Callers
from .proxy import BundleProxy, Relay

ROOT = Path(__file__).parents[3]
LIMIT = 3.0
"""Seconds: the staleness limit of these deployments."""

NAMES = ("policy", "site", "live", "heartbeat", "base-00")
MODES = ("strict", "bounded")


async def template(folder, binary, *, rules=""):
    """A state directory from which deployments are copied: keys, rules, an empty registry."""
    settings = Settings(state=folder, bundles_url="http://127.0.0.1:0")
    await initialise(settings, actor="tests")
    if rules:
        (settings.site / "site.rego").write_text(rules)
    await asyncio.to_thread(publish_policies, settings, binary)
    async with aclosing(await open_registry(settings.registry)) as registry:
        text = f"version: 1\nsettings:\n  staleness_limit: {LIMIT:g}\n"
        await import_document(registry, text, actor="tests")
    return folder


class ProxiedDeployment(Deployment):
    """A deployment whose `lictor serve` is a process, with a Redis, and a proxy between any two parts.

    Attributes:
        modes: the PDPs that calls go to.
        pdps: the PDPs that are created; `, remembering` is one with a cache.
    """

    modes = MODES
    pdps = MODES

    def __init__(self, binary, made_from, *, beside=None):
        super().__init__(None, binary)
        self.binary, self._from, self._beside = binary, made_from, beside
        self._running = []
        self.older, self.proxies = {}, {}
        self.usable = True

    async def __aenter__(self):
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def _start(self):
        self._make_folder()
        serve_port, redis_port = free_port(), int(self.redis.url.split(":")[2].split("/")[0])
        self.proxies = {
            **self.proxies,
            "bundles": BundleProxy(free_port(), serve_port),
            "redis": Relay(free_port(), redis_port),
            "redis of serve": Relay(free_port(), redis_port),
            "opa": Relay(str(self.folder / "opa.sock"), str(self.state / "opa" / "opa.sock")),
        }
        for proxy in self.proxies.values():
            await proxy.start()
            self._exit.push_async_callback(proxy.stop)
        self.bundles = self.proxies["bundles"]
        self.settings = Settings(
            state=self.state,
            bundles_url=f"http://127.0.0.1:{serve_port}",
            redis_url=f"redis://127.0.0.1:{self.proxies['redis of serve'].where}/0",
            **self.shared_settings(),
        )
        self.admin = Admin(self.settings.admin_socket)
        self._started = {}
        self._exit.callback(self.kill_all)
        self.start_serve()
        await until(lambda: self.admin.there, "lictor serve listens", patience=60)
        self.start_opa()
        self.registry = await self._exit.enter_async_context(
            aclosing(await registry_opener(self.settings)())
        )
        self._pdps = {mode: self._pdp(mode) for mode in self.pdps}
        self._exit.push_async_callback(self._close_pdps)
        if self._beside:
            self.callers = self._beside.callers
            return
        self.callers = Callers(self)
        await self.callers.begin()
        await self.healthy(patience=60)
        self.older = dict(self.bundles.seen)
        await self.write(lambda operator: operator.add_user("later"))
        await self.admin.compact()
        await until(self._folded, "the base has arrived", patience=60)

    def _make_folder(self):
        """Make the folder with the state directory, and start Redis; one of a pair uses the other's."""
        if self._beside:
            self.folder, self.redis = self._beside.folder / "b", self._beside.redis
            self.folder.mkdir()
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="lf-", dir="/tmp"))
            self._exit.callback(shutil.rmtree, self.folder, ignore_errors=True)
            (self.folder / "redis").mkdir()
            self.redis = RedisServer(folder=self.folder / "redis").start()
            self._exit.callback(self.redis.kill)
        self.state = self.folder / "s"
        shutil.copytree(self._from, self.state)
        (self.folder / "clock").write_bytes(struct.pack("d", 0.0))

    def shared_settings(self):
        """More settings, for deployments of other kinds."""
        return self._beside.shared_settings() if self._beside else {}

    async def _folded(self):
        status = await self.admin.status()
        return status["live_records"] == 0 and status["problems"] == []

    def met(self):
        """How many requests have met the fault by now."""
        met = [proxy.fault.met for proxy in self.proxies.values() if proxy.fault]
        # Without a fault on a proxy it is a publisher that dies. The mark of one that died before stays.
        return max(met) if met else (self.folder / "died").exists()

    async def wake(self):
        """Have `lictor serve` sync; return what went wrong, or nothing."""
        try:
            await self.admin.wake()
        except ServeUnavailableError as error:
            return str(error)
        return ""

    async def healthy(self, patience=20):
        """Wait until the control is allowed by every PDP, from a heartbeat that came after this call.

        OPA waits up to two seconds before it requests a heartbeat again that it could not get, and goes on with the
        last one until that is too old.
        """
        began = time.time()

        async def good():
            found = {mode: await self.authorize(mode, self.callers.control) for mode in self.modes}
            since = (time.time() - began) * 1000
            fresh = all(
                one.allow and (one.data_age_ms <= since or "remembering" in mode)
                for mode, one in found.items()
            )
            return fresh and not await self.wake()

        await until(good, "the control is allowed", patience=patience)

    def start_serve(self):
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LICTOR_")},
            "LICTOR_STATE": str(self.state),
            "LICTOR_BUNDLES_URL": self.settings.bundles_url,
            "LICTOR_REDIS_URL": self.settings.redis_url,
            "LICTOR_REGISTRY": self.settings.registry,
            "LICTOR_ARTEFACTS_URL": self.settings.artefacts_url,
        }
        arguments = [sys.executable, "-m", "tests.system.faults.server", str(self.folder), "serve"]
        self._begin("serve", arguments, env=environment, cwd=ROOT)

    def start_opa(self):
        settings = opa_settings(
            self.settings, bundles_url=f"http://127.0.0.1:{self.bundles.where}", bundles=NAMES
        )
        prepare(settings)
        folder = settings.folder
        # As `lictor opa` has it, but for the time between two requests for a base (30 to 60 s).
        config = json.loads((folder / "config.json").read_text())
        config["bundles"]["base-00"]["polling"] = {"min_delay_seconds": 1, "max_delay_seconds": 2}
        (folder / "config.json").write_text(json.dumps(config))
        self._begin("opa", command(self.binary, settings))

    def _begin(self, name, arguments, **more):
        with (self.folder / f"{name}.log").open("ab") as log:
            self._started[name] = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more
            )

    def signal(self, name, number):
        self._started[name].send_signal(number)

    def kill(self, name):
        self._started[name].kill()
        self._started[name].wait()

    def kill_all(self):
        for process in self._started.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def limit_files(self, name, size):
        """Limit the size of a file that a process may write; -1 lifts the limit."""
        hard = resource.prlimit(self._started[name].pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._started[name].pid, resource.RLIMIT_FSIZE, (size, hard))

    def set_clock(self, seconds):
        """Set the clock of `lictor serve` forward by so many seconds."""
        with (self.folder / "clock").open("r+b") as file:
            file.write(struct.pack("d", seconds))

    def background(self, coroutine):
        """Run something until the fault ends."""
        self._running.append(asyncio.ensure_future(coroutine))

    async def end_background(self):
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _pdp(self, mode):
        consistency, _, remembers = mode.partition(", ")
        shared = Shared(
            f"redis://127.0.0.1:{self.proxies['redis'].where}/0",
            key_file=self.settings.newest_key,
            timeout=0.8,
        )
        return PDP(
            opa_url=f"unix://{self.folder / 'opa.sock'}",
            opa_token_file=client_token_file(self.state / "opa"),
            verifier=self.keys.verifier(),
            deadline=1.5,
            shared=shared,
            consistency=consistency,
            cache=bool(remembers),
            record=FileRecord(self.folder / f"{mode}.jsonl"),
        )

    async def renew(self):
        """Replace the PDPs, as a restart of the MCP server does; their caches are empty."""
        await self._close_pdps()
        self._pdps = {mode: self._pdp(mode) for mode in self.pdps}

    async def _close_pdps(self):
        for pdp in self._pdps.values():
            await pdp.aclose()

    def fill_disk(self, *, full):
        """Fill the disk under the decision records, or empty it."""
        for mode, pdp in self._pdps.items():
            path = "/dev/full" if full else self.folder / f"{mode}.jsonl"
            file = os.open(path, os.O_APPEND | os.O_WRONLY)
            os.dup2(file, pdp._record._file)
            os.close(file)

    async def authorize(self, mode, bearer, argument=None, *, tool="search", **more):
        """Make one call, whose arguments hold a secret; `more` are further arguments."""
        arguments = {"query": argument or self.callers.secret, **more}
        return await self._pdps[mode].authorize(bearer, tool=tool, arguments=arguments)

    async def write(self, verb):
        """Write, notify Redis and wake `lictor serve`, as a command does; return what went wrong, or nothing."""
        notifier = RevisionNotifier(self.settings)
        operator = Operator(self.registry, actor="operator", committed=notifier.notify)
        try:
            await verb(operator)
            if not self.admin.there:
                return "lictor serve does not run"
            await self.admin.wake()
        except (RegistryError, ServeUnavailableError) as error:
            return f"{error.code}: {error}"
        return notifier.error
