"""`lictor demo`: watch real MCP clients being allowed and refused by a real OPA."""

import asyncio
import json
import logging
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from lictor.console import Common, note
from lictor.demo.calls import CallOutcome, Rotation, call_all, rotate_while_calling
from lictor.demo.processes import Demo, running
from lictor.exceptions import DemoFailedError

_DEFAULT = Common()


async def demo(
    *, keep: Annotated[bool, Parameter(negative="")] = False, common: Common = _DEFAULT
) -> int:
    """Set everything up in a fresh directory, call it in every way, rotate a team's token.

    Args:
        keep: leave it running afterwards, until interrupted.
        common: the flags that every command has.
    """
    # Until everything is up, each check is an outage that need not be logged.
    logging.getLogger("pdp_client").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="lictor-demo-") as folder:
        async with running(Path(folder), progress=note) as up:
            outcomes = await call_all(up)
            rotation = await rotate_while_calling(up)
            if common.format == "json":
                rows = [asdict(outcome) for outcome in outcomes]
                print(json.dumps({"calls": rows, "rotation": asdict(rotation)}))
            else:
                _print(outcomes, rotation)
            if keep:
                await _keep(up)
    if not rotation.new.allowed:
        raise DemoFailedError("the team's new token is refused")
    return 0


def _print(outcomes: list[CallOutcome], rotation: Rotation) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("who", "tool", "outcome", "reason", "libraries"):
        table.add_column(column, no_wrap=True)
    table.add_column("ms", justify="right")
    for one in outcomes:
        outcome = "[green]allowed[/]" if one.allowed else "[red]refused[/]"
        libraries = ", ".join(one.libraries) or "-"
        table.add_row(one.who, one.tool, outcome, one.reason, libraries, f"{one.ms:.1f}")
    # Output to a file need not be cut to the width of a terminal.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print()
    outlived = (
        f"was still allowed {rotation.outlived_ms:.0f} ms after it"
        if rotation.outlived_ms
        else "was refused before it"
    )
    console.print(
        "While a team called in a loop, `lictor team rotate` gave it a new JWT. The old one "
        f"{outlived} returned:\n{rotation.allowed} calls allowed, then {rotation.refused} refused "
        f"({rotation.reason}). The new one is {'allowed' if rotation.new.allowed else 'REFUSED'}."
    )


async def _keep(up: Demo) -> None:
    note(
        "the demo goes on until you press Ctrl-C. Call it with the MCP Inspector (Node 22):\n"
        f"  npx @modelcontextprotocol/inspector@2 --cli {up.url} --transport http \\\n"
        "    --method tools/call --tool-name get_health\n"
        "or with an opaque token:\n"
        f'    --header "Authorization: Bearer {_of_ada(up)}"\n'
        "and run commands on its registry with\n"
        f"  export LICTOR_STATE={up.environment['LICTOR_STATE']}"
    )
    stop = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    await stop.wait()


def _of_ada(up: Demo) -> str:
    return next(c.bearer for c in up.people.callers if c.who == "an opaque token" and c.bearer)
