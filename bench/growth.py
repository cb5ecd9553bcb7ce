"""How cost grows with the registry: a deployment of each size, one after another."""

import tempfile
import time
from pathlib import Path

from bench.cases import TIMED
from bench.filled import filled
from bench.fleet import peak_mb, percentile
from bench.plots import lines
from bench.sampling import median
from bench.tables import number, table

TITLE = "Growth"
ABOUT = (
    "A registry of each size, published from nothing, with one OPA. Teams, users, workspaces and "
    "libraries grow in proportion to the tokens. Decisions are uncached and about a thousand "
    "different tokens and teams."
)
SECONDS = 60

SIZES = (10_000, 100_000)
FULL_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)

_DECISIONS = 1000
_GROUPS = {
    "publish": ("until everything is published", "s"),
    "ready": ("from OPA's start until it has everything", "s"),
    "opa_mb": ("OPA's memory, at most", "MB"),
    "server_mb": ("`lictor serve`'s memory, at most", "MB"),
    "base_mb": ("base bundles", "MB"),
}


async def measure(bench):
    """Figures of each size; decisions have intervals, the others are measured once."""
    sizes = FULL_SIZES if bench.full else SIZES
    figures, rows, missing = [], [], {}
    for tokens in sizes:
        try:
            figures.append(await _size(bench, tokens))
        except Exception as error:  # noqa: BLE001 - a size less
            missing[f"{tokens:,} tokens"] = f"{type(error).__name__}: {error}".splitlines()[0]
            break
    for kind in TIMED:
        for percent in ("p50", "p99"):
            rows += [
                {
                    "group": f"a decision about a {kind}, {percent}", "unit": "ms", "note": "",
                    "name": f"{one['tokens']:,} tokens", **one[f"{kind}_{percent}"],
                }
                for one in figures
            ]  # fmt: skip
    return {"rows": rows, "figures": figures, "ratios": [], "missing": missing}


async def _size(bench, tokens):
    bench.progress.say(f"a registry of {tokens:,} tokens")
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        async with filled(folder, tokens) as made:
            found = {
                "tokens": tokens,
                "shards": sum(name.startswith("base-") for name in made.names),
                "publish": round(made.publish_seconds, 2),
                "ready": round(made.ready_seconds, 2),
                "base_mb": round(_base_bytes(made) / 1e6, 2),
            }
            for kind in TIMED:
                for percent, estimate in (await _decisions(bench, made, kind)).items():
                    found[f"{kind}_{percent}"] = estimate.as_json()
            found["opa_mb"] = round(peak_mb(made.opa_process.pid))
            found["server_mb"] = round(peak_mb(made.fleet.server.pid))
            return found


def _base_bytes(made):
    folder = Path(made.settings.bundles)
    return sum(path.stat().st_size for path in folder.glob("base-*.tar.gz"))


async def _decisions(bench, made, kind):
    """p50 and p99 of ten runs of a thousand decisions, in ms."""
    generated, pdp = made.generated, made.pdp()
    step = max(1, (generated.tokens if kind == "token" else generated.teams) // _DECISIONS)
    if kind == "token":
        bearers = [generated.bearer(n * step) for n in range(_DECISIONS)]
    else:
        bearers = [
            made.mint_team(generated.team_id(n * step), f"jti-{n * step}")
            for n in range(_DECISIONS)
        ]
    for bearer in bearers:  # verified once
        assert (await pdp.authorize(bearer, tool="search")).allow
    p50, p99 = [], []
    for turn in range(6):
        taken = []
        for bearer in bearers:
            began = time.perf_counter()
            await pdp.authorize(bearer, tool="search")
            taken.append(1000 * (time.perf_counter() - began))
        p50.append(percentile(taken, 50))
        p99.append(percentile(taken, 99))
        bench.progress(f"{generated.tokens:,} tokens, a {kind}", turn)
    return {"p50": median(p50), "p99": median(p99)}


def more(part):
    """A table of what was measured once."""
    yield ""
    yield from table(
        ["tokens", *(f"{title}, {unit}" for title, unit in _GROUPS.values())],
        ([f"{one['tokens']:,}", *(number(one[key]) for key in _GROUPS)] for one in part["figures"]),
    )


def plot(part, folder):
    """Log-log plots of times and of memory."""
    figures = part["figures"]
    for name, title, y, series in (
        (
            "growth-decision", "A decision, by the size of the registry", "ms",
            {
                f"{kind}, {percent}": [
                    (one["tokens"], one[f"{kind}_{percent}"]["value"]) for one in figures
                ]
                for kind in TIMED
                for percent in ("p50", "p99")
            },
        ),
        (
            "growth-publication", "Publication and start, by the size of the registry", "seconds",
            {_GROUPS[key][0]: _pairs(figures, key) for key in ("publish", "ready")},
        ),
        (
            "growth-memory", "Memory and bundles, by the size of the registry", "MB",
            {_GROUPS[key][0]: _pairs(figures, key) for key in ("opa_mb", "server_mb", "base_mb")},
        ),
    ):  # fmt: skip
        path = folder / f"{name}.svg"
        lines(path, series, x="tokens", y=y, title=title)
        yield path, title


def _pairs(figures, key):
    return [(one["tokens"], one[key]) for one in figures]
