"""MCP's conformance suite: installed from npm once, run against a server, its results read."""

import asyncio
import json
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .npm import PATIENCE, find_packages, node_in

PACKAGE = Path(__file__).with_name("package.json")
PINNED = json.loads(PACKAGE.read_text())["dependencies"]

RUNS = {
    "released": ["--suite", "all"],
    "newest, 2025-11-25": ["--requirements", "2025-11-25"],
    "newest, 2026-07-28": ["--requirements", "2026-07-28"],
}
"""Each way to run it. The first word is the dependency in package.json; the released suite knows
nothing newer than 2025-11-25."""

OUTSIDE = "tasks-"
"""The scenarios of an extension that the server does not offer, and lictor refuses, begin so."""

_MOMENT = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")
"""At the end of the name of each folder of results."""


@dataclass(frozen=True)
class Suite:
    """An installed suite.

    Attributes:
        folder: where npm put it.
    """

    folder: Path

    async def run(self, name, url):
        """What came of each check of one of `RUNS`: how often (scenario, check, status) was said.

        What a check says for information alone counts once: how often it does is up to the timing.

        Raises:
            RuntimeError: it ended without results.
        """
        program = self.folder / "node_modules" / name.partition(",")[0] / "dist" / "index.js"
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            process = await asyncio.create_subprocess_exec(
                node_in(self.folder), program, "server", "--url", url, *RUNS[name], "-o", folder,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            try:
                said, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            outcomes = Counter(_outcomes(Path(folder)))
        if not outcomes:
            raise RuntimeError(f"the suite has no results: {said.decode()[-2000:]}")
        return Counter(
            {said: 1 if said[-1] == "INFO" else times for said, times in outcomes.items()}
        )


def find_suite(environ=os.environ):
    """The suite as pinned in package.json, installed by npm into the cache if it is not there.

    Raises:
        DownloadUnavailableError: npm is missing, or it fails.
    """
    version = PINNED["newest"].rpartition("@")[2]
    return Suite(
        find_packages(
            PACKAGE, name=f"conformance-{version}", what="conformance suite", environ=environ
        )
    )


def _outcomes(folder):
    for results in folder.glob("*/checks.json"):
        scenario = _MOMENT.sub("", results.parent.name).removeprefix("server-")
        if scenario.startswith(OUTSIDE):
            continue
        for check in json.loads(results.read_text()):
            yield scenario, f"{check['id']} {check['name']}", check["status"]
