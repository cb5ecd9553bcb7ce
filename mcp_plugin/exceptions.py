"""The errors of `mcp_plugin`; FastMCP turns each refusal into an error result.

All are FastMCP's `AuthorizationError`, whose text reaches the client even where a server masks its
errors. That text is all that a client sees.
"""

from typing import ClassVar

from fastmcp.exceptions import AuthorizationError

from pdp_client import Decision
from pdp_client.reasons import quote


class PluginError(AuthorizationError):
    """The base of this package's errors, never raised itself; `code` is a stable metric label."""

    code: ClassVar[str]


class ArgumentsRefusedError(PluginError):
    """A call's arguments do not fit the tool's schema without conversion.

    Attributes:
        parameter: the name of the parameter that does not fit; None if it is not known.
    """

    code = "arguments_refused"

    def __init__(self, parameter: str | None = None) -> None:
        what = "The arguments do" if parameter is None else f"The argument {quote(parameter)} does"
        super().__init__(f"{what} not fit the tool's schema without conversion.")
        self.parameter = parameter


class CallDenied(PluginError):
    """A request was refused.

    Attributes:
        decision: The denial; its message is this error's text.
    """

    code = "call_denied"

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.message)
        self.decision = decision


class LibrariesUnavailable(PluginError):
    """A tool limited by `AllowedLibraries()` ran without a decision that names libraries."""

    code = "libraries_unavailable"

    def __init__(self) -> None:
        super().__init__("This tool needs the libraries of an authenticated caller.")


class LibraryNotAllowed(PluginError):
    """A request names a library that the decision does not allow, or that does not exist.

    The text does not say which, nor does it name the library.
    """

    code = "library_not_allowed"

    def __init__(self) -> None:
        super().__init__("No such library.")


class TaskRefused(PluginError):
    """A worker would have run a tool: later, elsewhere, and without a decision."""

    code = "task_refused"

    def __init__(self, tool: str) -> None:
        super().__init__(f"This server runs no tool as a task: {tool} would be one.")
