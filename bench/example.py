"""The example MCP server with a real `lictor serve` and a real OPA, each a process of its own."""

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

from bundles.opa.binary import find_opa
from lictor.cli import run as run_command
from lictor.settings import Settings
from tests.support.lictor_processes import LictorProcesses
from tests.support.plain_opa import free_port
from tests.support.waiting import until

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "examples" / "library_server" / "server.py"


class Example:
    """`lictor serve`, OPA, and one example server at a time.

    Args:
        folder: empty; its path must be short enough for a unix socket.
        exit_: stops all processes.
        script: the MCP server.
    """

    def __init__(self, folder, exit_, *, script=SERVER):
        self._script = script
        self.folder = folder
        self.processes = LictorProcesses(Settings(state=folder / "s"), find_opa())
        self.state = self.processes.state
        self.record = folder / "record.jsonl"
        exit_.callback(self.processes.stop_all)

    async def start(self):
        """Start `lictor serve` and OPA, with one user and one library."""
        env = {k: v for k, v in self.processes.env.items() if k.startswith("LICTOR_")}
        os.environ.update(env)  # for commands that run in this process
        for arguments in (
            ("init",),
            ("policies", "build", "--sign"),
            ("workspace", "add", "books"),
            ("library", "add", "poe", "--workspace=books"),
            ("user", "add", "ada"),
        ):
            await self.command(*arguments)
        self._start("serve", "lictor", "serve")
        await until((self.state / "admin.sock").exists, "lictor serve listens", patience=60)
        self.processes.start("opa")
        await until((self.state / "opa" / "opa.sock").exists, "OPA listens", patience=60)

    async def command(self, *arguments):
        """Run a `lictor` command in a thread of this process, and return what it prints."""

        def run():
            with redirect_stdout(io.StringIO()) as printed:
                code = run_command([*arguments, "--format=json"])
            assert code == 0, (arguments[:2], code)
            return json.loads(printed.getvalue() or "null")

        return await asyncio.to_thread(run)

    async def new_token(self):
        """A token for every tool and the one library."""
        return await self.command("token", "create", "--user=ada", "--tool=*", "--library=poe")

    async def start_server(self, *, cached):
        """Start the MCP server, and return its port; a server that ran before is stopped."""
        if "server" in self.processes.running:
            self.processes.stop("server")
        port = free_port()
        shared = {
            "LICTOR_SHARED_URL": self.processes.env["LICTOR_BUNDLES_URL"],
            "LICTOR_SHARED_KEY": str(self.state / "newest.key"),
        }
        self._start(
            "server", str(self._script), f"--port={port}",
            LICTOR_OPA_URL=f"unix://{self.state / 'opa' / 'opa.sock'}",
            LICTOR_OPA_TOKEN_FILE=str(self.state / "opa" / "client.token"),
            LICTOR_TEAM_JWKS=str(self.state / "keys" / "mnemosyne.public.jwks"),
            LICTOR_RECORD=str(self.record),
            **(shared if cached else {}),
        )  # fmt: skip

        def listens():
            assert self.pid("server", running=True), (self.folder / "server.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        await until(listens, "the MCP server listens", patience=60)
        return port

    def pid(self, name, *, running=False):
        """The process id of a part; with `running`, None if it has ended."""
        process = self.processes.running[name]
        return None if running and process.poll() is not None else process.pid

    def task_file(self, name):
        """Where a part writes the number of its tasks; see `bench.task_count`."""
        return self.folder / f"{name}.tasks"

    def _start(self, name, program, *arguments, **environment):
        """Start a Python program that counts its tasks on request."""
        counted = ["-m", "bench.task_count", str(self.task_file(name)), program, *arguments]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes.running[name] = subprocess.Popen(
                [sys.executable, *counted],
                env={**self.processes.env, **environment, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
