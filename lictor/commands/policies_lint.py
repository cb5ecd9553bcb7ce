"""`lictor policies lint`: names in rules and grants that match nothing."""

import time
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

from bundles.build.rule_names import names_in_rules
from bundles.build.rule_sources import RuleSources
from bundles.build.source_text import SourceText
from bundles.opa.binary import find_opa
from lictor.console import Common, note
from lictor.exceptions import InvalidArgumentError, NotInitialisedError
from lictor.lint import LintFinding, RegistryNames, lint
from lictor.mcp_components import ServerComponents
from lictor.settings import read_secret
from registry import Library, Registry, Team, Token, User

_DEFAULT = Common()


async def lint_policies(
    *,
    server: str | None = None,
    tools: Path | None = None,
    bearer_file: Path | None = None,
    common: Common = _DEFAULT,
) -> int:
    """Compare the names in the site's rules and in grants with what an MCP server has.

    Exits with 1 when a name meets nothing, or when no grant reaches a tool.

    Args:
        server: the URL of a running MCP server.
        tools: a JSON file with the server's answer to `tools/list`, in place of a server.
        bearer_file: holds a bearer for the server that sees every tool.
        common: the flags that every command has.
    """
    if (server is None) == (tools is None):
        raise InvalidArgumentError("Neither or both of --server and --tools are given. Give one.")
    if server is not None:
        bearer = read_secret(bearer_file) if bearer_file else None
        offered = await ServerComponents.from_server(server, bearer)
    elif tools is not None:
        offered = ServerComponents.from_file(tools)
    opa = find_opa()
    rules = RuleSources.of_site(common.settings.site).rules()
    names = names_in_rules([SourceText.parse(opa, path, content) for path, content in rules])
    registry = await _registry_names(common)
    if registry is None:
        note("Found no registry here, so libraries and grants are not checked.")
    findings = lint(opa, names, offered, registry)
    _show(common, findings)
    if not findings:
        note(f"{len(names)} names in rules, {len(offered.components)} components: nothing found")
    return int(bool(findings))


async def _registry_names(common: Common) -> RegistryNames | None:
    try:
        async with common.reading() as registry:
            libraries = {one.uid: one.tags for one in await registry.all(Library)}
            return RegistryNames(libraries, await _grants(registry))
    except NotInitialisedError:
        return None


async def _grants(registry: Registry) -> dict[str, list[str]]:
    """Return the patterns that are granted now, with their holders."""
    active = {user.id for user in await registry.all(User) if user.active}
    holders: dict[str, list[str]] = {}
    for team in await registry.all(Team):
        if team.active and team.owner in active:
            for pattern in team.tools:
                holders.setdefault(pattern, []).append(f"team {team.name}")
    now = time.time()
    for token in await registry.all(Token):
        expired = token.expires_at is not None and token.expires_at <= now
        if token.active and token.user in active and not expired:
            for pattern in token.tools:
                holders.setdefault(pattern, []).append(f"token {token.label}")
    return holders


def _show(common: Common, findings: Sequence[LintFinding]) -> None:
    columns = [field.name for field in fields(LintFinding)]
    common.show([dict(zip(columns, astuple(one), strict=True)) for one in findings])
