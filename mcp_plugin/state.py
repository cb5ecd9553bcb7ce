"""The four state keys that tools of the legacy server read, for one tool call."""

from typing import Any
from uuid import UUID

from fastmcp import Context

from mcp_plugin.context import libraries_of, proven
from mcp_plugin.fastmcp_compat import isolate_request_state
from pdp_client import Credential, Decision


async def publish(context: Context, decision: Decision) -> None:
    """Set the state keys for a call that is about to run, and for nothing beyond it.

    `mcp_user`: the user's id. `mcp_token`: an opaque token's masked label. `mcp_claims`: a JWT's
    verified claims, with `kid` and `team_id` (a UUID). `mcp_resolved_libraries`: the list. Each is
    None where it does not apply; all are None if the caller was not authenticated.
    """
    isolate_request_state(context)
    credential = proven(decision)
    user = decision.principal.user if credential and decision.principal else None
    values = {
        "mcp_user": user,
        "mcp_token": credential.label if credential and credential.kind == "token" else None,
        "mcp_claims": _claims(credential) if credential and credential.kind == "jwt" else None,
        "mcp_resolved_libraries": libraries_of(decision),
    }
    for key, value in values.items():
        await context.set_state(key, value, serializable=False)


def _claims(credential: Credential) -> dict[str, Any]:
    team_id = UUID(credential.claims["sub"].removeprefix("team:"))
    return {**credential.claims, "kid": credential.kid, "team_id": team_id}
