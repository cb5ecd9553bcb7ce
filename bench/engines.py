"""What else decides the same cases: peers, each in a process and an environment of its own."""

import asyncio
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from bench.cases import as_json
from bench.opa_clients import bytes_of
from bench.peers.processes import running
from bundles.publish.signing import data_of
from tests.support.neo4j import running_neo4j

LEGACY = "the legacy way: Django ORM on SQLite, Cypher on Neo4j"

_SELECTED = "in process; the caller's records are selected for it; verifies no bearer; "
_TEMPLATE = re.compile(r"\{library \| some library in ")


@dataclass(frozen=True)
class Engine:
    """A peer.

    Attributes:
        name: its row.
        less: the work that it does less than lictor.
        script: in `bench/peers`.
        packages: its file of pins in `bench/peers/pinned`.
        extra: settings of the script, or an asynchronous function that returns them.
    """

    name: str
    less: str
    script: str
    packages: str
    bench: object
    extra: object

    @asynccontextmanager
    async def start(self):
        """Start it; the context yields a `Peer`."""
        bench = self.bench
        async with AsyncExitStack() as exit_:
            extra = self.extra
            extra = extra if isinstance(extra, Mapping) else await extra(bench, exit_)
            given = {
                "cases": as_json(bench.cases), "dataset": str(bench.dataset), **extra
            }  # fmt: skip
            folder = bench.folder / re.sub(r"\W+", "-", self.name)[:30]
            folder.mkdir()
            yield await exit_.enter_async_context(
                running(
                    self.script, given, folder, os.environ,
                    packages=self.packages, log=bench.folder / "peers.log",
                )
            )  # fmt: skip


def engines(bench):
    """All peers, the quickest to start first."""
    return [
        Engine(
            "cedarpy, yes or no", f"{_SELECTED}no libraries, no reason",
            "cedar_engine.py", "cedarpy", bench, {"libraries": False},
        ),
        Engine(
            "cedarpy, with libraries", f"{_SELECTED}one request for each library; no reason",
            "cedar_engine.py", "cedarpy", bench, {"libraries": True},
        ),
        Engine(
            "casbin, FastEnforcer", "in process; a line for each grant, so that nothing is "
            "checked but the line; no libraries, no reason",
            "casbin_engine.py", "casbin", bench, {"fast": True},
        ),
        Engine(
            "casbin, Enforcer", "the same, and it goes through the lines until one fits",
            "casbin_engine.py", "casbin", bench, {"fast": False},
        ),
        Engine(
            "regorus, lictor's Rego", "in process; the same rules on the same data; verifies no "
            "bearer; its data is not updated; SHA-256 is Python's",
            "regorus_engine.py", "regorus", bench, _regorus,
        ),
        Engine(
            "eunomia's engine", f"{_SELECTED}no libraries",
            "eunomia_engine.py", "eunomia", bench, {},
        ),
        Engine(
            LEGACY, "in process; no rules of the site, no record of the use",
            "legacy_engine.py", "legacy", bench, _legacy,
        ),
    ]  # fmt: skip


async def _regorus(bench, _):
    """Lictor's Rego, what its bundles hold, and the inputs that lictor sends."""
    rego, data = {}, {"local": {"protects_roots": True}, "system": {"bundles": {}}}
    for name in bench.made.names:
        content = await _bundle(bench.made.settings, name)
        _merge(data, data_of(content))
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar.getmembers():
                text = tar.extractfile(member).read().decode()
                if member.name.endswith(".rego"):
                    # regorus takes the variable for the function of that name.
                    rego[f"{name}{member.name}"] = _TEMPLATE.sub("{uid | some uid in ", text)
                elif member.name.lstrip("/") == ".manifest":
                    data["system"]["bundles"][name] = {"manifest": json.loads(text)}
    path = bench.folder / "regorus-data.json"
    path.write_text(json.dumps(data))
    inputs = {
        name: json.dumps((await bytes_of(bench.made, one))[1]) for name, one in bench.cases.items()
    }
    return {"rego": rego, "data": str(path), "inputs": inputs}


async def _bundle(settings, name):
    """A bundle's bytes, as an OPA fetches them."""
    headers = {"Authorization": f"Bearer {settings.bundles_token_file.read_text().strip()}"}
    async with httpx2.AsyncClient(headers=headers) as http:
        response = await http.get(f"{settings.bundles_url}/bundles/{name}.tar.gz")
        return response.raise_for_status().content


def _merge(below, above):
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


async def _legacy(bench, exit_):
    """A real Neo4j, and the keys that verify the bearers."""
    running_server = running_neo4j(heap="1g")  # with the compiler that a production server has
    server = await asyncio.to_thread(running_server.__enter__)
    exit_.callback(running_server.__exit__, None, None, None)
    keys = Path(bench.made.settings.keys) / "mnemosyne.public.jwks"
    return {
        "neo4j": server.url, "jwks": json.loads(keys.read_text()),
        "database": str(bench.folder / "legacy.sqlite3"),
    }  # fmt: skip
