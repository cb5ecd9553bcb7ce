"""The deployment that all scenarios of a run use, driven from a test that is not asynchronous."""

import asyncio
import sys
import time
from collections import Counter
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from anyio.from_thread import start_blocking_portal

from tests.support.waiting import until
from tests.system.faults.canaries import leaks
from tests.system.faults.deployment import ProxiedDeployment
from tests.system.faults.run import prepared

OUTAGES = {"unavailable", "behind", "stale_data"}
YET_UNKNOWN = "key_unknown"
"""The reason an MCP server gives for a new key: it reads its key files once a second."""
MODES = ("strict", "bounded", "strict, remembering", "bounded, remembering")
PARTS = ("serve", "opa", "redis")
DEPTHS = (1, 9)
"""Values of the argument `depth`; the site denies more than five."""
RULES = """\
package site

deny contains {"action": action, "code": "too_deep", "message": "Not so deep."} if {
	some action in data.lictor.actions
	action.arguments.depth > 5
}
"""


class CachingDeployment(ProxiedDeployment):
    """`lictor serve`, an OPA, a Redis, and a PDP of each kind."""

    modes = pdps = MODES


@asynccontextmanager
async def _deployment():
    async with (
        prepared(rules=RULES) as (binary, made),
        CachingDeployment(binary, made) as deployment,
    ):
        yield deployment


@dataclass(frozen=True)
class Answer:
    """The decision of one call; `at` is when it began, in seconds of a monotonic clock."""

    at: float
    reason: str
    libraries: tuple
    version: tuple | None

    @property
    def is_outage(self):
        """Whether no data was read."""
        return self.reason in OUTAGES or (self.version is None and self.reason == YET_UNKNOWN)


class ScenarioDriver:
    """One deployment, and which of its parts are stopped. It is replaced after a broken law."""

    def __init__(self):
        self.made = []
        """Each bearer that was ever issued, and what it should get."""
        self.counts = Counter()
        """What has happened, and how often."""
        self._exit = ExitStack()
        self._portal = self._exit.enter_context(start_blocking_portal())
        self._deployment_exit = self._exit.enter_context(ExitStack())
        self.spoilt = True

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._exit.__exit__(*exc)

    def make(self):
        """Start a deployment, unless there is one in which no law was broken."""
        if not self.spoilt:
            return
        self._deployment_exit.close()
        self.made.clear()
        manager = self._portal.wrap_async_context_manager(_deployment())
        self._deployment = self._deployment_exit.enter_context(manager)
        self.keys = self._deployment.keys
        self.stopped = set()
        self.at_rest, self.spoilt = True, False

    def _call(self, function, *arguments):
        """Run a function in the loop; if it takes a minute and a half, print where it hangs and fail."""

        async def called():
            task = asyncio.ensure_future(function(*arguments))
            if not (await asyncio.wait([task], timeout=90))[0]:
                for other in asyncio.all_tasks():
                    other.print_stack(file=sys.stdout)
                raise AssertionError(f"{function} hangs")
            return await task

        return self._portal.call(called)

    def write(self, verb):
        """Write as a command does; return the verb's result, and what went wrong after the commit, or nothing."""
        done = []

        async def noted(operator):
            done.append(await verb(operator))

        said = self._call(self._deployment.write, noted)
        assert done, said
        return done[0], said

    def authorize(self, mode, bearer, tool="search", depths=DEPTHS[:1]):
        """Call concurrently, once for each depth. While all parts run, wait until an outage has passed."""

        async def once(depth):
            at = time.monotonic()
            found = await self._deployment.authorize(mode, bearer, tool=tool, depth=depth)
            version = (found.epoch, found.revision) if found.revision is not None else None
            return Answer(at, found.reason.value, found.libraries, version)

        async def answered(depth):
            answer = await once(depth)
            return None if answer.is_outage else answer

        async def in_the_end(depth):
            return await until(lambda: answered(depth), f"{mode} answers")

        calls = map(in_the_end if self.at_rest else once, depths)
        return self._call(lambda: asyncio.gather(*calls))

    def stored(self, type_, id_):
        """A record, as the registry has it."""
        return self._call(self._deployment.registry.get, type_, id_)

    def revision(self):
        """The registry's revision."""
        return self._call(self._deployment.registry.version).revision

    def stop(self, part):
        """Kill a part, as `kill -9` does. Redis comes back empty."""
        self.stopped.add(part)
        self.counts[f"{part} killed"] += 1
        self.at_rest = False
        if part == "redis":
            self._deployment.redis.kill()
        else:
            self._deployment.kill(part)

    def start(self):
        """Start the stopped parts."""
        deployment = self._deployment
        starts = {
            "serve": deployment.start_serve,
            "opa": deployment.start_opa,
            "redis": deployment.redis.start,
        }
        while self.stopped:
            starts[self.stopped.pop()]()

    def rest(self):
        """Wait until the control, which no scenario touches, is allowed by every PDP."""
        self._call(self._deployment.healthy, 60)
        self.at_rest = True

    def renew(self):
        """Restart the MCP servers: the caches of their PDPs are empty."""
        self._call(self._deployment.renew)
        self.counts["MCP servers started again"] += 1

    def compact(self):
        """Have `lictor serve` compact."""
        self._call(self._deployment.admin.compact)
        self.counts["compacted"] += 1

    def leaks(self):
        """The files and pages that hold a bearer or another secret, of all that the deployment has left so far."""
        return leaks(self._deployment, *(bearer.text for bearer, *_ in self.made))
