"""How long one decision takes, and what else could decide: the first section of `make bench`.

Every contestant outcomes all cases first; one that outcomes any of them otherwise is not timed.
"""

import os
from contextlib import AsyncExitStack

from bench.cases import TIMED, differences
from bench.cost import Bare
from bench.decision_load import load_process
from bench.engines import LEGACY, engines
from bench.floors import UnavailableError, asyncio_echo, go_echo
from bench.opa_clients import LictorCalls, OPACalls, batch, bytes_of
from bench.plots import bars
from bench.sampling import Contestant, batch_of, failed_rounds, interleave, median, ratio
from tests.support.waiting import until

TITLE = "One decision"
ABOUT = (
    "May this token, or this team, call the tool `search`, and which libraries may it touch? The "
    "registry holds 10,000 tokens, 1,000 teams and 10,000 libraries; the token has 4 libraries, "
    "the team 40 in 2 workspaces. lictor verifies the bearer once and remembers that; nothing is "
    "recorded. Peers run in processes of their own, with pinned versions, and time themselves. "
    "The legacy way is a reconstruction."
)
SECONDS = 150

FLOOR_GO = "Go echo"
UNCACHED = "lictor, uncached"
CACHED = "lictor, cached"
STRICT = "lictor, strict (cached)"

_NOTES = {
    UNCACHED: "the whole decision, over OPA's unix socket",
    STRICT: "one read from Redis says that nothing has changed",
    CACHED: "nothing has changed since it was decided",
}
_AIMS = {"token": 4.0, "team": 4.5}
_LEGACY_AIMS = {"latency": 5.0, "throughput": 15.0}
_CALLERS = 16
_AT_ONCE = f"a team, {_CALLERS} callers at once"


async def measure(bench):
    """All rows for a token and a team, and the ratios that have aims.

    Args:
        bench: what was started (`bench.run.Bench`).
    """
    async with AsyncExitStack() as exit_:
        contest = Contest(bench, exit_)
        for enter in (
            contest.add_floors,
            contest.add_lictor,
            contest.add_opa_clients,
            contest.add_peers,
        ):
            await enter()
        for kind, contestants in contest.rows.items():
            await interleave(
                contestants,
                bench.rounds,
                on_round=lambda n, kind=kind: bench.progress(f"a decision, {kind}", n),
            )
        at_once = await _at_once(bench)
    return _result(contest.rows, at_once, contest.missing)


async def _at_once(bench):
    """Decisions a second of 16 callers: threads in the legacy way, tasks of one loop in lictor."""
    taken = {UNCACHED: [], LEGACY: []}
    async with load_process(bench.made) as load:
        bearer = bench.cases["team"].bearer
        for number in range(max(3, bench.rounds // 6)):
            found = await load.request(do="closed", bearer=bearer, callers=_CALLERS, seconds=1.5)
            taken[UNCACHED].append(len(found["ms"]) / found["seconds"])
            if bench.legacy is not None:
                count = await bench.legacy.request(
                    do="load", case="team", threads=_CALLERS, seconds=1.5
                )
                taken[LEGACY].append(count / 1.5)
            bench.progress(_AT_ONCE, number)
    return taken


class Contest:
    """All contestants; one that cannot be started, or decides otherwise, is noted as missing."""

    def __init__(self, bench, exit_):
        self.rows = {kind: [] for kind in TIMED}
        self.missing = {}
        self._bench = bench
        self._made, self._asked = bench.made, bench.cases
        self._exit = exit_

    async def add_floors(self):
        """Servers that decide nothing, and the least that a client of OPA does."""
        self._inputs = {
            name: await bytes_of(self._made, one) for name, one in self._asked.items()
        }  # fmt: skip
        folder = self._bench.folder
        for name, note, way in (
            (FLOOR_GO, "net/http on a unix socket; decides nothing", go_echo(folder, os.environ)),
            ("asyncio echo", "sends the body back; decides nothing", asyncio_echo(folder)),
        ):
            try:
                bare = await self._exit.enter_async_context(way)
            except (UnavailableError, OSError, AssertionError) as error:
                self.missing[name] = str(error)
                continue
            self._add(name, note, lambda kind, bare=bare: batch_of(self._exchange(bare, kind)))
        bare = Bare(self._made.socket)
        await bare.connect()
        self._exit.callback(bare.close)
        note = "sends lictor's bytes to OPA, reads the response and does not parse it"
        self._add(
            "bare asyncio, unix socket", note, lambda kind: batch_of(self._exchange(bare, kind))
        )

    async def add_lictor(self):
        """Lictor in its consistencies, with its outcomes, which all others are compared with."""
        made = self._made
        ways = {UNCACHED: LictorCalls(made.pdp())}
        self._expected = {
            name: await ways[UNCACHED].decide(one) for name, one in self._asked.items()
        }  # fmt: skip
        if made.redis_url:
            ways[STRICT] = LictorCalls(made.pdp(consistency="strict", cache=True))
            ways[CACHED] = LictorCalls(made.pdp(cache=True))
        else:
            self.missing[STRICT] = self.missing[CACHED] = "no Redis"
        for name, way in ways.items():
            if name != UNCACHED:
                for kind in TIMED:
                    await until(lambda kind=kind, way=way: way.is_kept(self._asked[kind]), "kept")
            outcomes = [await way.decide(one) for one in self._asked.values()]
            if self._agrees(name, outcomes):
                self._add(name, _NOTES[name], lambda kind, way=way: way.batch(self._asked[kind]))

    async def add_opa_clients(self):
        """The same OPA through other clients."""
        inputs = {name: given for name, (_, given) in self._inputs.items()}
        clients = await OPACalls(self._made, lambda case: inputs[case.name]).open()
        self._exit.push_async_callback(clients.aclose)
        for name, way in (
            ("opa-python-client, TCP", clients.through_client),
            ("aiohttp, TCP", clients.through_aiohttp),
            ("aiohttp, unix socket", clients.through_aiohttp_unix),
        ):
            try:
                outcomes = [await way(one) for one in self._asked.values()]
            except Exception as error:  # noqa: BLE001 - a row less
                self.missing[name] = f"{type(error).__name__}: {error}"
                continue
            note = "verifies no bearer, makes no `Decision`, has no deadline"
            if self._agrees(name, outcomes):
                self._add(name, note, lambda kind, way=way: batch(way, self._asked[kind]))

    async def add_peers(self):
        """Other engines, each in a process of its own."""
        for engine in engines(self._bench):
            self._bench.say(f"starting {engine.name}")
            try:
                peer = await self._exit.enter_async_context(engine.start())
                outcomes = await peer.outcomes()
            except Exception as error:  # noqa: BLE001 - a row less
                self.missing[engine.name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                continue
            if self._agrees(engine.name, outcomes):
                self._add(engine.name, engine.less, peer.batch)
                if engine.name == LEGACY:
                    self._bench.legacy = peer

    def _add(self, name, note, batch_for):
        for kind in TIMED:
            self.rows[kind].append(Contestant(name, batch_for(kind), note))

    def _agrees(self, name, outcomes):
        if other := differences(self._asked, self._expected, outcomes):
            self.missing[name] = f"decides otherwise: {other}"
        return not other

    def _exchange(self, bare, kind):
        request, _ = self._inputs[kind]
        return lambda: bare.exchange(request)


def _result(rows, at_once, missing):
    result = {"rows": [], "ratios": [], "missing": dict(missing)}
    for kind, contestants in rows.items():
        result["missing"] |= failed_rounds(contestants)
        for one in contestants:
            if one.dropped or not one.taken:
                result["missing"][f"{one.name}, {kind}"] = one.dropped or "no round was timed"
                continue
            taken = median(one.taken).as_json()
            row = {"group": f"a {kind}", "name": one.name, "unit": "µs", "note": one.note}
            result["rows"].append({**row, **taken})
    result["rows"] += [
        {
            "group": _AT_ONCE, "name": name, "unit": "decisions/s", "note": "",
            **median(taken).as_json(),
        }
        for name, taken in at_once.items()
        if taken
    ]  # fmt: skip
    for name, first, second, aim, below in _compared(rows, at_once):
        if first and second:
            found = ratio(first, second).as_json()
            result["ratios"].append(
                {"name": name, "aim": aim, "below": below, "unit": "×", **found}
            )
        else:
            result["missing"][name] = "a row that it needs was left out"
    return result


def _compared(rows, at_once):
    """Names, both sides' rounds, aims, and whether a ratio is to stay below its aim."""
    for kind, contestants in rows.items():
        by_name = {one.name: one.medians for one in contestants if one.taken and not one.dropped}
        ours = by_name.get(UNCACHED)
        yield (
            f"a decision, uncached, against the Go echo: {kind}",
            ours, by_name.get(FLOOR_GO), _AIMS[kind], True,
        )  # fmt: skip
        if kind == "team":
            yield (
                "the legacy way against lictor uncached, time of a decision: team",
                by_name.get(LEGACY), ours, _LEGACY_AIMS["latency"], False,
            )  # fmt: skip
    yield (
        f"lictor uncached against the legacy way, decisions a second: {_AT_ONCE}",
        at_once[UNCACHED], at_once[LEGACY], _LEGACY_AIMS["throughput"], False,
    )  # fmt: skip


def plot(part, folder):
    """One chart for each kind of caller."""
    for kind in TIMED:
        rows = [row for row in part["rows"] if row["group"] == f"a {kind}"]
        path = folder / f"decision-{kind}.svg"
        title = f"One decision about a {kind}: median and 95 % interval"
        bars(path, rows, unit="microseconds", title=title)
        yield path, title
