"""One trial of the matrix: a fault with a seed, in a running deployment.

All callers call all the time. The fault begins, one caller is revoked, the fault ends; what counts is the time until
the control is allowed again and the revoked caller is denied for its own reason. The calls are judged at the end.
"""

import asyncio
import contextlib
import random
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import until

from .callers import CHANGES
from .canaries import leaks
from .deployment import LIMIT, MODES

RECOVERY = 5.0
"""Seconds after the end of a fault in which everything must be as it should."""

SETTLED = 1.0
"""Seconds: the heartbeat asks for no revision that was published later than so long before it (see
`bundles.publish.heartbeat`), so an OPA that gets heartbeats and nothing else may go on for the limit and this."""

_GIVEN_UP = 20.0
_BUSY = 1.0
_STARVED = 0.2
_ROUNDS = 4
"""Rounds of calls, each of which must have the right decisions."""


@dataclass(frozen=True)
class Call:
    """One call and its decision."""

    at: float
    until: float
    mode: str
    who: str
    allow: bool
    reason: str
    version: tuple


@dataclass
class Result:
    """The result of a trial. `faults` names all that was wrong; an empty list is a pass."""

    fault: str
    seed: int
    change: str = ""
    calls: int = 0
    wrong: int = 0
    lost: int = 0
    leaked: int = 0
    recovery: float = 0.0
    met: int = 0
    acknowledged: str = ""
    reasons: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)
    seconds: float = 0.0
    late: str = ""
    lag: float = 0.0
    skipped: str = ""


class Trial:
    """Runs one."""

    def __init__(self, deployment, fault, seed, *, brief=False):
        self.deployment, self.fault, self.brief = deployment, fault, brief
        self.rng = random.Random(f"{fault.name} {seed}")
        self.calls = []
        self.result = Result(fault.name, seed)

    async def run(self):
        began = time.monotonic()
        deployment, rng = self.deployment, self.rng
        if rng.random() < 0.5:
            await deployment.renew()
        await deployment.healthy()
        self.result.change = change = rng.choice(self.fault.changes or CHANGES)
        self.victim = await deployment.callers.victim(change)
        await self._both_allowed()
        self.calling = asyncio.gather(self._call_continually(), self._watch_the_machine())
        try:
            await self._break()
            self.held = await self.victim.holds(deployment.registry)
        finally:
            self.calling.cancel()
            await asyncio.gather(self.calling, return_exceptions=True)
            if change == "lockdown":
                await deployment.write(lambda operator: operator.lockdown(on=False))
        self._judge()
        self.result.seconds = time.monotonic() - began
        return self.result

    async def _both_allowed(self):
        latest = time.monotonic() + _GIVEN_UP
        while not all(
            [
                (await self.deployment.authorize(mode, self.victim.bearer)).allow
                for mode in self.deployment.modes
            ]
        ):
            assert time.monotonic() < latest, "a new caller is not allowed"
            await asyncio.sleep(0.02)

    async def _break(self):
        deployment, rng, fault = self.deployment, self.rng, self.fault
        await asyncio.sleep(rng.uniform(0, 0.15))
        self.fault_at = time.monotonic()
        past = fault.long and rng.random() < 0.35 and not self.brief
        hold = LIMIT + SETTLED + 0.5 if past else rng.uniform(0.2, 0.6 if self.brief else 1.2)
        first = fault.first or rng.random() < 0.8
        self.acked_at = None
        revoking = None if first else asyncio.ensure_future(self._revoke())
        await fault.begin(deployment, rng)
        self.begun_at = time.monotonic()
        if first:
            await asyncio.sleep(rng.uniform(0, 0.3))
            revoking = asyncio.ensure_future(self._revoke())
        await asyncio.sleep(max(hold, fault.at_least) - (time.monotonic() - self.begun_at))
        if fault.met:
            await self._wait_until_met()
        self.end_at = time.monotonic()
        self.result.met = await fault.end(deployment) or 0
        self.ended_at = time.monotonic()
        await deployment.end_background()
        said = await revoking
        self.result.acknowledged = "at once" if not said else "on the second try"
        self.said = said
        await self._recover()

    async def _wait_until_met(self):
        """Wait for a request: OPA lets up to two seconds pass before the next."""
        with contextlib.suppress(AssertionError):  # the judgement will say so
            await until(self.deployment.met, "a request meets the fault", patience=2 * RECOVERY)

    async def _revoke(self):
        """As an operator does, once. Returns what went wrong; then nothing was promised."""
        said = await self.deployment.write(self.victim.revoke)
        if not said:
            self.acked_at = time.monotonic()
        return said

    async def _recover(self):
        """Wait until all is as it should be and stays so, repeating a command that has failed."""
        latest = self.ended_at + _GIVEN_UP
        right = 0
        while right < _ROUNDS and time.monotonic() < latest:
            if self.acked_at is None:
                await self._revoke()
            good = self.acked_at is not None and await self._as_it_should_be()
            right = right + 1 if good else 0
            await asyncio.sleep(0.05)
        self.recovered = right == _ROUNDS

    async def _as_it_should_be(self):
        for call in await self._call_with_every_bearer():
            if call.reason != self._right(call):
                return False
        return not await self.deployment.wake()

    def _right(self, call):
        """The reason that there should be once the revocation holds and nothing is wrong."""
        if self.victim.change == "lockdown" and call.who == "control":
            return "lockdown"
        own = {"control": "ok", "unknown": call.reason}
        return own.get(call.who, self.victim.reason)

    async def _call_continually(self):
        while True:
            await self._call_with_every_bearer()
            await asyncio.sleep(self.rng.uniform(0.02, 0.1))

    async def _watch_the_machine(self):
        """Measure how late this process is scheduled: a busy machine explains late responses."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.02)
            self.result.lag = max(self.result.lag, time.monotonic() - began - 0.02)

    async def _call_with_every_bearer(self):
        bearers = {
            "control": self.deployment.callers.control,
            "victim": self.victim.bearer,
            "unknown": self.deployment.callers.unknown,
        }
        return await asyncio.gather(
            *(
                self._call(mode, who, bearer)
                for mode in self.deployment.modes
                for who, bearer in bearers.items()
            )
        )

    async def _call(self, mode, who, bearer):
        at = time.monotonic()
        found = await self.deployment.authorize(mode, bearer)
        call = Call(
            at, time.monotonic(), mode, who, found.allow, found.reason.value,
            (found.epoch or 0, found.revision or 0),
        )  # fmt: skip
        self.calls.append(call)
        return call

    def _judge(self):
        result, said = self.result, self.result.faults
        result.calls = len(self.calls)
        for call in self.calls:
            if wrong := self._wrong(call):
                result.wrong += 1
                said.append(f"allowed: {wrong}")
            if unexpected := self._unexpected(call):
                said.append(unexpected)
        result.reasons = {
            mode: dict(
                Counter(
                    c.reason for c in self.calls if c.mode.startswith(mode) and c.at > self.fault_at
                )
            )
            for mode in MODES
        }
        for mode in self.deployment.modes:
            if self._went_back(mode):
                said.append(f"{mode}: the revision went back")
        self._judge_recovery()
        if self.fault.met and not result.met:
            said.append(
                f"no request met the fault; under way: {self.deployment.bundles.under_way()}"
            )

    def _judge_recovery(self):
        """The fault is over with the last answer that it explains."""
        if not self.recovered:
            self.result.faults.append(
                f"not as it should be {_GIVEN_UP:g} s after the end; last: {self.said}"
            )
        over = [
            call.until
            for call in self.calls
            if call.until > self.ended_at and call.reason != self._right(call)
        ]
        self.result.recovery = max([*over, self.acked_at or 0, self.ended_at]) - self.ended_at
        if self.result.recovery > RECOVERY:
            busy = ", on a machine that was too busy" if self.result.lag > _STARVED else ""
            self.result.late = f"recovered after {self.result.recovery:.1f} s{busy}"

    def _wrong(self, call):
        """Why an allow should not have been, or nothing."""
        if not call.allow:
            return ""
        lasting = self.begun_at < call.at and call.until < self.end_at
        if lasting and call.mode.split()[0] in self.fault.shut:
            return f"{call.mode}, {call.who}, though no PDP could know"
        if call.who == "control":
            return ""
        if call.who == "unknown":
            return f"{call.mode}, an unknown bearer"
        if self.acked_at is None:
            return ""
        strict = call.mode.startswith("strict") and not self.fault.holds_back
        late = 0.0 if strict else LIMIT + SETTLED + self.fault.ahead
        after = call.at - self.acked_at - late
        return f"{call.mode}, {after:.3f} s too late" if after > 0 else ""

    def _unexpected(self, call):
        """What is wrong with a reason, or nothing."""
        own = {"control": {"ok"}, "unknown": {"invalid_token"}}.get(
            call.who, {"ok", self.victim.reason}
        )
        if self.victim.change == "lockdown" and call.until > self.fault_at:
            own = own | {"lockdown"}
        affected = call.until > self.fault_at
        allowed = own | (getattr(self.fault, call.mode.split()[0]) if affected else set())
        if call.mode.startswith("strict") and call.at < (self.acked_at or call.at) + _BUSY:
            # On a busy machine what has just been written takes longer than a strict PDP waits.
            allowed = allowed | {"behind"}
        if self.result.lag > _STARVED:
            # Answers come too late then, which refuses.
            allowed = allowed | _OUTAGES
        if call.reason in allowed:
            return ""
        return f"{call.mode}, {call.who}: {call.reason}"

    def _went_back(self, mode):
        """Answers that began after another had ended must not be from an older state."""
        newest = (0, 0)
        rows = [
            c for c in self.calls if c.mode == mode and c.reason not in _OUTAGES and any(c.version)
        ]
        ended = sorted(rows, key=lambda c: c.until)
        position = 0
        for call in sorted(rows, key=lambda c: c.at):
            while position < len(ended) and ended[position].until <= call.at:
                newest = max(newest, ended[position].version)
                position += 1
            if call.version < newest:
                return True
        return False

    async def aftermath(self):
        """What the registry holds, and what lies in files: after the deployment is quiet again."""
        if not self.held:
            self.result.lost += 1
            self.result.faults.append(
                f"{self.victim.change}: acknowledged, and not in the registry"
            )
        found = await asyncio.to_thread(leaks, self.deployment, self.victim.bearer)
        self.result.leaked = len(found)
        self.result.faults += [f"a secret in {place}" for place in found]


_OUTAGES = {"unavailable", "behind", "stale_data"}


async def run_trial(deployment, fault, seed, *, brief=False):
    """A trial's result. A deployment in which something went wrong must not be used again."""
    trial = Trial(deployment, fault, seed, brief=brief)
    try:
        await trial.run()
        await trial.aftermath()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the result of this trial
        where = traceback.extract_tb(error.__traceback__)[-1]
        trial.result.faults.append(
            f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {error}"[:500]
        )
    finally:
        await deployment.end_background()
    deployment.usable = not trial.result.faults
    return trial.result
