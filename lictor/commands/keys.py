"""`lictor key`: keys that sign JWTs, in files; the registry holds which are active."""

import sys
from typing import Annotated, Literal

from cyclopts import App, Parameter

from lictor.commands.done import show_done
from lictor.console import Common
from lictor.exceptions import InvalidArgumentError
from lictor.keys import TEAM_ISSUER, KeyFolder
from lictor.wait import WaitOptions
from registry import Key

key = App(name="key", help="Keys that sign JWTs.")

_DEFAULT = Common()
_AT_ONCE = WaitOptions()


@key.command(name="new")
async def new_key(
    *,
    issuer: str = TEAM_ISSUER,
    kid: str | None = None,
    alg: Literal["EdDSA", "ES256", "RS256", "PS256"] = "EdDSA",
    common: Common = _DEFAULT,
) -> None:
    """Make a key; the next JWT of a team is signed with it."""
    async with common.operator() as operator:
        public = KeyFolder(common.settings.keys).new(issuer=issuer, kid=kid, alg=alg)
        await show_done(common, await operator.add_key(public["kid"], alg=public["alg"]))


@key.command(name="import")
async def import_key(
    kid: str,
    /,
    *,
    issuer: str,
    hex: Annotated[
        bool, Parameter(negative="", help="The secret on standard input is hexadecimal.")
    ],
    alg: Literal["HS256", "HS384", "HS512"] = "HS256",
    common: Common = _DEFAULT,
) -> None:
    """Take over a symmetric secret of another system, read from standard input."""
    if not hex:
        raise InvalidArgumentError("a secret is taken over as hexadecimal text: --hex")
    async with common.operator() as operator:
        KeyFolder(common.settings.keys).import_secret(
            sys.stdin.readline(), issuer=issuer, kid=kid, alg=alg
        )
        await show_done(common, await operator.add_key(kid, alg=alg))


@key.command(name="retire")
async def retire_key(
    kid: str, /, *, waiting: WaitOptions = _AT_ONCE, common: Common = _DEFAULT
) -> None:
    """Kill every JWT that a key signed."""
    async with common.operator() as operator:
        await show_done(common, await operator.retire_key(kid), waiting=waiting)


@key.command(name="list")
async def list_keys(*, common: Common = _DEFAULT) -> None:
    """List all keys."""
    async with common.reading() as registry:
        common.show(await registry.all(Key))
