"""Each peer's middleware, set up to allow what `GRANTED` says and nothing else.

Where a peer asks a decision point elsewhere, an answer out of `GRANTED` stands in for it, so that
what is seen is the middleware's doing. `gone=True` points it to a port without a listener.
"""

import json
import os
import tempfile
from pathlib import Path

GRANTED = {"tools:search", "tools:c_search", "tools:wait", "resources:data://open", "prompts:ask"}
FORBIDDEN_TOPIC = "secret"
"""The rule on an argument: callers must not search for this, if the rule gets arguments."""

NOWHERE = "127.0.0.1:9"


def granted(kind, name, arguments=None):
    """What the policy says."""
    return f"{kind}:{name}" in GRANTED and FORBIDDEN_TOPIC not in json.dumps(arguments or {})


def fastmcp_auth(*, gone=False):  # noqa: ARG001 - it has no decision point elsewhere
    """FastMCP's own `AuthMiddleware`, with a check of the site's."""
    from fastmcp.server.middleware import AuthMiddleware

    def check(context):
        component = context.component
        names = {cls.__name__ for cls in type(component).__mro__}
        if names & {"Resource", "ResourceTemplate"}:
            uri = getattr(component, "uri", None) or component.uri_template
            return context.token is not None and granted("resources", str(uri))
        kind = "prompts" if "Prompt" in names else "tools"
        return context.token is not None and granted(kind, component.name)

    return AuthMiddleware(auth=check)


def permit(*, gone=False):
    """permit-fastmcp: every request is a check of Permit's."""
    from permit import Permit
    from permit_fastmcp.middleware.middleware import PermitMcpMiddleware

    if gone:
        return PermitMcpMiddleware(Permit(pdp=f"http://{NOWHERE}", token="x"))

    class Stub:
        async def check(self, _user, action, resource):
            asked, attributes = resource["type"], resource.get("attributes", {})
            if action == "list":
                return True
            if asked == "mcp_server":
                arguments = {k: v for k, v in attributes.items() if k.startswith("arg_")}
                # It turns the underscores of a tool's name into hyphens.
                return granted("tools", action.replace("-", "_"), arguments)
            kind, _, name = asked.removeprefix("mcp_server_").partition(":")
            return granted(kind, name)

    return PermitMcpMiddleware(Stub())


def cerbos(*, gone=False):
    """cerbos-fastmcp: tools and lists are checks of Cerbos'."""
    from cerbos.sdk.model import Principal
    from cerbos_fastmcp import CerbosAuthorizationMiddleware

    class Stub:
        async def is_allowed(self, action, _principal, resource):
            _, _, name = action.partition("::")
            if not name:
                return True
            return granted("tools", name, str(resource.attr["arguments"]))

    def principal(token):
        return Principal(token.client_id, roles={"user"})

    if gone:
        return CerbosAuthorizationMiddleware(NOWHERE, principal_builder=principal)
    return CerbosAuthorizationMiddleware(principal_builder=principal, cerbos_client=Stub())


def eunomia(*, gone=False):
    """eunomia-mcp: its engine runs inside the server, on a file of rules."""
    from eunomia_mcp import create_eunomia_middleware

    if gone:
        return create_eunomia_middleware(
            use_remote_eunomia=True, eunomia_endpoint=f"http://{NOWHERE}"
        )
    # It knows a resource by the name of its function.
    names = [one.replace("data://open", "open_shelf") for one in GRANTED]
    topic = {"path": "attributes.arguments.topic", "operator": "equals", "value": FORBIDDEN_TOPIC}
    rule = {"effect": "allow", "actions": ["list", "execute"]}
    rules = [
        {"name": "topic", "effect": "deny", "actions": ["execute"], "resource_conditions": [topic]},
        *(
            {
                **rule,
                "name": f"r{n}",
                "resource_conditions": [
                    {"path": "uri", "operator": "equals", "value": f"mcp:{one}"}
                ],
            }
            for n, one in enumerate(names)
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.json"
        path.write_text(json.dumps({"name": "probe", "rules": rules, "default_effect": "deny"}))
        return create_eunomia_middleware(policy_file=str(path))


def apparitor(*, gone=False):
    """apparitor: every use is an AuthZEN evaluation."""
    import httpx
    from apparitor.config import ScannerConfig
    from apparitor.fastmcp import FastMCPAuthorizationMiddleware

    def answer(request):
        asked = json.loads(request.content)
        if "evaluations" in asked:
            each = [{**asked, **one} for one in asked["evaluations"]]
            return httpx.Response(200, json={"evaluations": [_evaluated(one) for one in each]})
        return httpx.Response(200, json=_evaluated(asked))

    client = None if gone else httpx.AsyncClient(transport=httpx.MockTransport(answer))
    url = f"http://{NOWHERE}" if gone else "http://127.0.0.1:1"
    config = ScannerConfig(pdp_url=url, allow_insecure_pdp=True, redact_arguments=False)
    return FastMCPAuthorizationMiddleware(config=config, filter_listings=True, http_client=client)


def _evaluated(asked):
    kind = {"mcp_resource": "resources", "mcp_prompt": "prompts"}.get(asked["resource"]["type"])
    name = asked["resource"]["id"]
    if kind != "resources":
        name = name.removeprefix("probe/")
    return {"decision": granted(kind or "tools", name, asked)}


def sapl(*, gone=False):
    """sapl-fastmcp: what carries its decorator is a subscription to SAPL; see `decorator`."""
    from sapl_base import AuthorizationDecision, Decision, MultiAuthorizationDecision
    from sapl_base.transport import HttpPdpClient, HttpPdpClientOptions
    from sapl_fastmcp.middleware import SAPLMiddleware

    if gone:
        return SAPLMiddleware(HttpPdpClient(HttpPdpClientOptions(base_url=f"http://{NOWHERE}")))
    kinds = {"call": "tools", "read": "resources", "get": "prompts"}
    shelves = {"open_shelf": "data://open", "shut_shelf": "data://shut"}

    def decided(subscription):
        asked = subscription.resource
        name = asked.get("uri") or shelves.get(asked["name"], asked["name"])
        allowed = granted(kinds[subscription.action], name, asked.get("arguments"))
        return AuthorizationDecision(decision=Decision.PERMIT if allowed else Decision.DENY)

    class Stub:
        async def decide_once(self, subscription):
            return decided(subscription)

        async def multi_decide_all_once(self, several):
            found = {name: decided(one) for name, one in several.subscriptions.items()}
            return MultiAuthorizationDecision(decisions=found)

    return SAPLMiddleware(Stub())


def governance_toolkit(*, gone=False):  # noqa: ARG001 - it has no decision point elsewhere
    """Microsoft's toolkit has no middleware for FastMCP: its gateway, called before each tool."""
    from agent_os.integrations.base import GovernancePolicy
    from agent_os.mcp_gateway import MCPGateway
    from fastmcp.exceptions import ToolError
    from fastmcp.server.middleware import Middleware

    class Gateway(Middleware):
        async def on_call_tool(self, context, call_next):
            names = [one.removeprefix("tools:") for one in GRANTED if one.startswith("tools:")]
            policy = GovernancePolicy(allowed_tools=names, blocked_patterns=[FORBIDDEN_TOPIC])
            called = context.message
            allowed, reason = MCPGateway(policy).intercept_tool_call(
                "ada", called.name, called.arguments or {}
            )
            if not allowed:
                raise ToolError(reason)
            return await call_next(context)

    return Gateway()


def decorator(name):
    """What a peer needs on each function; with most, nothing."""
    if name != "sapl-fastmcp":
        return lambda function: function
    from sapl_fastmcp.decorators import pre_enforce

    return pre_enforce(stealth=True)


GUARDS = {
    "sapl-fastmcp": sapl,
    "agent-governance-toolkit": governance_toolkit,
    "fastmcp": fastmcp_auth,
    "permit-fastmcp": permit,
    "cerbos-fastmcp": cerbos,
    "eunomia-mcp": eunomia,
    "apparitor": apparitor,
}

os.environ.setdefault("PERMIT_MCP_IDENTITY_MODE", "header")
