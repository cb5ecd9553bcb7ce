"""The pages of the docs, taken apart, and a shell that does what a reader would do.

An HTML comment right before a fenced block says what becomes of it:

`<!-- run -->`              its commands run in order, and print what is shown
`<!-- run: until -->`       each command is repeated until it prints what is shown
`<!-- run: background -->`  its one command goes on running until the page ends
`<!-- file: PATH -->`       it is written to that file
`<!-- given: … -->`         (anywhere) what is there before the page begins: a key of `GIVEN`

A page has one folder and one state directory. What is shown is compared loosely: `…` stands for
anything, ids and digests for any others, and lines may be left out.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.waiting import PATIENCE

from lictor.settings import Settings
from registry import open_registry
from registry.operations import Operator

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "adr" not in path.parts)

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[a-z]+(?:: [^\n]*?)?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_MASKS = [
    (re.compile(r"lct_…[0-9a-f]{8}"), "LABEL"),
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"[0-9a-f]{8,}"), "HEX"),
]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    mark: str
    kind: str
    text: str

    def commands(self):
        """Each command of a console block, with the output that is shown for it."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, *printed = part.splitlines()
            while command.endswith("\\") or (printed and printed[0].startswith("> ")):
                command += "\n" + printed.pop(0).removeprefix("> ")
            yield command, [line for line in printed if line.strip()]


def blocks(page):
    """The fenced blocks of a page, in order."""
    return [
        Block(page, found["mark"] or "", found["kind"], found["text"])
        for found in _BLOCK.finditer(page.read_text())
    ]


def missing(printed, output):
    """The first of the lines shown that the output does not have in its place; None if it has all."""
    lines = iter([_masked(line) for line in output.splitlines()])
    for line in printed:
        pattern = re.sub(r"\s+", r"\\s+", re.escape(_masked(line)).replace(r"\ ", " "))
        wanted = re.compile(pattern.replace("…", ".*"))
        if not any(wanted.fullmatch(have) for have in lines):
            return line
    return None


def _masked(line):
    for pattern, name in _MASKS:
        line = pattern.sub(name, line)
    return line.strip()


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class PageReader:
    """Follows one page, in a folder of its own."""

    def __init__(self, folder, opa_binary):
        self.folder = folder
        self._variables = folder / ".variables"
        self._variables.touch()
        self._code = 0
        self._processes = []
        # The ports that the docs name may be taken here.
        self._port, bundles_port = _free_port(), _free_port()
        # Coverage is measured elsewhere; here it would double the time.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LICTOR_", "COV"))}
        self.environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "LICTOR_BUNDLES_URL": f"http://127.0.0.1:{bundles_port}",
            "LICTOR_OPA_BIN": str(opa_binary.path),
        }

    def follow(self, block):
        """Do what a block's mark says."""
        how, _, rest = block.mark.partition(": ")
        if how == "file":
            path = self.folder / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._here(block.text))
        elif how == "run" and rest == "background":
            for command, _shown in block.commands():
                self.start(command)
        elif how == "run" and block.kind == "python":
            done = subprocess.run(
                [sys.executable, "-c", block.text],
                env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        elif how == "run":
            self._type(block, again=rest == "until")

    def _type(self, block, *, again):
        commands = list(block.commands())
        for (command, printed), (following, _) in zip(
            commands, [*commands[1:], ("", [])], strict=True
        ):
            latest = time.monotonic() + PATIENCE
            while True:
                output = self.run(command)
                absent = missing(printed, output)
                if absent is None or not again or time.monotonic() > latest:
                    break
            transcript = f"{block.page.relative_to(DOCS)}: $ {command}\n{output}"
            assert absent is None, f"{transcript}\nis without: {absent}"
            assert again or self._code == 0 or following == "echo $?", f"{transcript}\n{self._code}"

    def run(self, command):
        """Run one command as the next one of a session, and return all that it prints."""
        script = (
            f"set -a; source {self._variables}; (exit {self._code})\n{command}\n"
            f"__code=$?; {{ declare -px; umask -p; }} > {self._variables}; exit $__code"
        )
        done = subprocess.run(
            ["bash", "-c", self._here(script)],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        self._code = done.returncode
        return done.stdout

    def start(self, command):
        with (self.folder / f"background-{len(self._processes)}.log").open("wb") as log:
            script = f"set -a; source {self._variables}; exec {command}"
            process = subprocess.Popen(
                ["bash", "-c", self._here(script)],
                env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        self._processes.append(process)

    def _here(self, text):
        return text.replace("8000", str(self._port))

    def wait_for(self, path):
        latest = time.monotonic() + PATIENCE
        while not path.exists():
            assert time.monotonic() < latest, [
                log.read_text() for log in self.folder.glob("background-*.log")
            ]
            time.sleep(0.01)

    def stop(self):
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def initialised(self, template):
        """What `lictor init` and `lictor policies build --sign` leave, under `state`."""
        shutil.copytree(template, self.folder / "state")
        self.environment["LICTOR_STATE"] = str(self.folder / "state")

    def populated(self, template):
        """The same, with Ada and one library."""
        self.initialised(template)
        settings = Settings(state=self.folder / "state")

        async def populate():
            async with aclosing(await open_registry(settings.registry)) as registry:
                operator = Operator(registry, actor="tests")
                await operator.add_user("ada", name="Ada")
                await operator.add_workspace("books")
                await operator.add_library("poe", workspace="books")

        asyncio.run(populate())

    def running(self, template):
        """The same, with `lictor serve` and `lictor opa`."""
        self.populated(template)
        self.start("lictor serve")
        self.start("lictor opa")
        for name in ("admin.sock", "opa/opa.sock"):
            self.wait_for(self.folder / "state" / name)


GIVEN = {
    "an initialised state directory": PageReader.initialised,
    "a running lictor with ada, the workspace books and the library poe in it": PageReader.running,
    "ada, the workspace books and the library poe in the registry": PageReader.populated,
}


@pytest.fixture
def reader(short_path, opa_binary):
    """A reader who runs the commands of a page."""
    reader = PageReader(short_path, opa_binary)
    try:
        yield reader
    finally:
        reader.stop()
