"""Tools that a worker runs later: decided on the request, and again when they run.

Needs `fastmcp-tasks`, and `BearerAuth`: FastMCP separates tasks by authenticated caller.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from docket import Depends
from docket.dependencies import current_execution
from fastmcp.server.dependencies import get_http_headers
from fastmcp.utilities.versions import VersionSpec
from fastmcp_tasks import TasksExtension
from fastmcp_tasks.encryption import snapshot_codec
from fastmcp_tasks.input_store import load_task_args
from fastmcp_tasks.keys import base_task_key, parse_task_key

from mcp_plugin.context import decision_scope
from mcp_plugin.fastmcp_compat import worker_dependencies
from mcp_plugin.http.bearer_auth import BearerAuth
from mcp_plugin.http.request import Caller, extract
from mcp_plugin.middleware import PolicyMiddleware
from mcp_plugin.protocol import arguments
from mcp_plugin.revocation import OpenWork, may_cut
from pdp_client import Action, ConfigurationError


class PolicyTasks(TasksExtension):
    """FastMCP's tasks extension, for a server that is guarded.

    ```python
    mcp.add_extension(PolicyTasks(policy, url="redis://…"))
    ```

    A task carries its caller's bearer, as FastMCP keeps it, and runs only on a decision of its own,
    made when a worker starts it: a call whose grant was revoked meanwhile does not run.
    `AllowedLibraries()` gives it the libraries of that decision. To read a task's state, a caller
    needs a bearer that is valid at that time; FastMCP shows it only its own tasks. Tasks that leave
    the process must be encrypted (`FASTMCP_TASKS_ENCRYPTION_KEY`), so that Redis never holds a
    bearer in plain text.
    """

    def __init__(self, policy: PolicyMiddleware, **settings: Any) -> None:
        """Create the extension for a policy.

        Args:
            policy: decides; it must be in the server's middleware.
            settings: the settings of `TasksExtension`.

        Raises:
            ConfigurationError: Redis would hold bearers in plain text.
        """
        super().__init__(**settings)
        self.policy = policy
        if not self.docket_settings.url.startswith("memory://") and not snapshot_codec().protected:
            raise ConfigurationError(
                "tasks hold bearers: set FASTMCP_TASKS_ENCRYPTION_KEY, or keep them in memory://"
            )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run the worker, with a decision around each task.

        Raises:
            ConfigurationError: any caller could read any other caller's tasks.
        """
        auth = self.server.auth
        if not isinstance(auth, BearerAuth) or auth.policy is not self.policy:
            raise ConfigurationError("tasks need FastMCP(auth=BearerAuth(policy, …))")
        async with super().lifespan():
            # The worker has not run yet: nothing is awaited between its start and this line.
            dependencies = worker_dependencies(self.server)
            if dependencies is not None:
                dependencies["mcp_plugin_decision"] = Depends(self._decided)
            yield

    @asynccontextmanager
    async def _decided(self) -> AsyncIterator[None]:
        """Decide a task, and keep its decision the current one while it runs.

        Raises:
            CallDenied: the task is denied.
            ArgumentsRefusedError: as for a call.
        """
        execution = current_execution.get()
        key = parse_task_key(base_task_key(execution.key))
        named, _, version = key["component_identifier"].removeprefix("tool:").rpartition("@")
        wanted = VersionSpec(eq=version) if version else None
        tool = await self.server.get_tool(named, version=wanted)
        docket: Any = self.server.docket
        sent = await load_task_args(docket, key["task_scope"], key["client_task_id"])
        carried = get_http_headers(include_all=True).get("authorization")
        headers = [] if carried is None else [(b"authorization", carried.encode())]
        caller = Caller(extract(headers)[1], "http")
        decision = await arguments.enforce(
            self.policy.enforcer, caller, server=self.server, name=named, tool=tool, sent=sent
        )
        enforcer = self.policy.enforcer
        if caller.bearer is None:
            with decision_scope(decision):
                yield
            return

        def cancel() -> None:
            if may_cut(tool.meta if tool else None):
                self._cancelling = asyncio.ensure_future(docket.cancel(execution.key))

        work = OpenWork("task", Action(name=named), cancel)
        with enforcer.revocations.opened(caller, work, decision=decision), decision_scope(decision):
            yield
