"""`lictor decide`: one real decision, for people and scripts."""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bundles.opa.binary import find_opa
from lictor.call_input import CallInput, read_call_input
from lictor.console import Common, note
from lictor.exceptions import InvalidArgumentError
from lictor.keys import KeyFolder
from lictor.settings import require
from lictor.trial import trial_opa
from lictor_common.text import printable_json
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
    tool: str | None = None,
    method: str | None = None,
    name: str | None = None,
    uri: str | None = None,
    tag: Annotated[list[str] | None, Parameter(negative="")] = None,
    arguments: str | None = None,
    annotations: str | None = None,
    tool_version: str | None = None,
    server: str | None = None,
    transport: str | None = None,
    action: Path | None = None,
    bearer_file: Path | None = None,
    common: Common = _DEFAULT,
) -> int:
    """Decide a call for the bearer on standard input.

    Everything that a rule can read can be given. With `--site FOLDER` the rules in that folder are
    tried out, unsigned, on the data that is published in the state directory.

    Exits with 0 when it is allowed, 3 denied, 4 unauthenticated, 1 on an outage.

    Args:
        tool: the tool's name; the same as `--name` with the method `tools/call`.
        method: the MCP method, such as `prompts/get`.
        name: the tool's or the prompt's name, or the URI of a resource.
        uri: a resource's URI; it is the name too, unless `--name` is given.
        tag: a tag of the component; more than once for several.
        arguments: the call's arguments, as a JSON object.
        annotations: the component's hints, as a JSON object.
        tool_version: the component's version.
        server: the MCP server's name.
        transport: `http` or `stdio`.
        action: a JSON file with any of these as `method`, `name`, `uri`, `tags`, `arguments`,
            `annotations`, `version`, `server`, `transport`; flags come before it.
        bearer_file: read the bearer from here instead.
        common: the flags that every command has.
    """
    call = read_call_input(
        action,
        method=method or ("tools/call" if tool else None),
        name=tool if tool is not None else name,
        uri=uri,
        tags=tag,
        arguments=arguments,
        annotations=annotations,
        version=tool_version,
        server=server,
        transport=transport,
    )
    settings = common.settings
    if not settings.keys.is_dir():
        require(settings)
    decision = await _decided(common, call, _bearer(bearer_file))
    indent = None if common.format == "json" else 2
    print(printable_json(as_json(decision), indent=indent))
    return EXIT_CODES[decision.reason_class]


async def _decided(common: Common, call: CallInput, bearer: str | None) -> Decision:
    settings = common.settings
    if common.site is not None:
        async with trial_opa(settings, find_opa(), settings.site) as trial:
            return await _decide_with(
                common, call, bearer, trial.url, trial.token_file, record=False
            )
    token_file = settings.opa_token_file if settings.opa_token_file.exists() else None
    return await _decide_with(common, call, bearer, settings.opa_url, token_file, record=True)


async def _decide_with(
    common: Common,
    call: CallInput,
    bearer: str | None,
    opa_url: str,
    opa_token_file: Path | None,
    *,
    record: bool,
) -> Decision:
    settings = common.settings
    async with PDP(
        opa_url=opa_url,
        opa_token_file=opa_token_file,
        verifier=KeyFolder(settings.keys).verifier(),
        record=FileRecord(settings.record) if record and settings.state.is_dir() else None,
        server=call.server,
    ) as pdp:
        return await pdp.decide(bearer, call.action, transport=call.transport)


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
            note("no bearer on standard input: deciding for an anonymous caller")
            return None
        else:
            raw = sys.stdin.buffer.read(_LONGEST_READ)
    except OSError as error:
        raise InvalidArgumentError(f"{file}: {error.strerror}") from None
    # One line's end, as `echo` adds it; anything more belongs to the bearer, and spoils it.
    text = raw.decode("utf-8", errors="replace")
    return text.removesuffix("\n").removesuffix("\r") or None
