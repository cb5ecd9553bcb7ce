"""`lictor decide`: one real decision, for people and scripts."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lictor.console import Common, note
from lictor.exceptions import InvalidArgument
from lictor.keys import KeyFolder
from lictor.settings import require
from pdp_client import PDP, Decision, FileRecord, ReasonClass

EXIT_CODES = {
    ReasonClass.OK: 0,
    ReasonClass.OUTAGE: 1,
    ReasonClass.AUTHORISATION: 3,
    ReasonClass.AUTHENTICATION: 4,
}
"""An outage never looks like a denial."""

_LONGEST_READ = 64 * 1024
_DEFAULT = Common()


async def decide(
    *,
    tool: str,
    tag: Annotated[list[str] | None, Parameter(negative="")] = None,
    bearer_file: Path | None = None,
    common: Common = _DEFAULT,
) -> int:
    """Decide a call for the bearer on standard input.

    Exits with 0 when it is allowed, 3 denied, 4 unauthenticated, 1 on an outage.

    Args:
        tool: the tool's name.
        tag: a tag of the tool; more than once for several.
        bearer_file: read the bearer from here instead.
        common: the flags that every command has.
    """
    settings = common.settings
    if not settings.keys.is_dir():
        require(settings)
    async with PDP(
        opa_url=settings.opa_url,
        opa_token_file=settings.opa_token_file if settings.opa_token_file.exists() else None,
        verifier=KeyFolder(settings.keys).verifier(),
        record=FileRecord(settings.record) if settings.state.is_dir() else None,
        server="lictor",
    ) as pdp:
        decision = await pdp.authorize(_bearer(bearer_file), tool=tool, tags=tag or ())
    indent = None if common.format == "json" else 2
    print(json.dumps(as_json(decision), indent=indent, ensure_ascii=False))
    return EXIT_CODES[decision.reason_class]


def as_json(decision: Decision) -> dict[str, Any]:
    """A decision in the contract's form."""
    shown = asdict(replace(decision, credential=None))
    del shown["credential"], shown["cached"]
    return shown


def _bearer(file: Path | None) -> str | None:
    try:
        if file is not None:
            with file.open("rb") as opened:
                raw = opened.read(_LONGEST_READ)
        elif sys.stdin is None or sys.stdin.isatty():
            note("no bearer on standard input: deciding for nobody")
            return None
        else:
            raw = sys.stdin.buffer.read(_LONGEST_READ)
    except OSError as error:
        raise InvalidArgument(f"{file}: {error.strerror}") from None
    # One line's end, as `echo` adds it; anything more belongs to the bearer, and spoils it.
    text = raw.decode("utf-8", errors="replace")
    return text.removesuffix("\n").removesuffix("\r") or None
