"""The errors of the `lictor` command, beside those of the packages that it uses.

```
LictorError            never raised itself; every subclass carries a stable `code`
├── NotInitialised     the state directory is missing or incomplete
├── AlreadyInitialised `lictor init` would overwrite something
├── AlreadyRunning     a process of this state directory runs
├── InvalidArgument    an argument that no flag's type could refuse
├── KeyFileUnusable    a file of signing keys cannot be read or written
├── NoSigningKey       no key is there to mint a team's JWT with
├── ServeUnavailable   `lictor serve` does not answer, or could not do what was requested
├── WakeFailed         the registry was written, `lictor serve` could not be notified
├── TrialFailed        an OPA to try rules out does not start, or cannot load what is published
├── NotEffective       a revocation was published, and is not known to hold everywhere
├── MCPServerError     the tools of an MCP server cannot be listed
└── DemoFailed         a part of the demo did not come up
```
"""


class LictorError(Exception):
    """The base of this package's errors; `code` is stable."""

    code = "lictor_error"


class NotInitialised(LictorError):  # noqa: N818 - the state, as everywhere here
    """The state directory is missing; the message says how to make one."""

    code = "not_initialised"


class AlreadyInitialised(LictorError):  # noqa: N818 - the same
    """The state directory is in use."""

    code = "already_initialised"


class AlreadyRunning(LictorError):  # noqa: N818 - the same
    """Another process has the place that this one would take."""

    code = "already_running"


class InvalidArgument(LictorError):  # noqa: N818 - the same
    """An argument cannot be used as it is."""

    code = "invalid_argument"


class KeyFileUnusable(LictorError):  # noqa: N818 - the same
    """A JWK set cannot be read or written; the message names the file, never its content."""

    code = "key_file_unusable"


class NoSigningKey(LictorError):  # noqa: N818 - the same
    """The private part of an active signing key of the issuer is missing."""

    code = "no_signing_key"


class WakeFailed(LictorError):  # noqa: N818 - the same
    """The write stands, but `lictor serve` did not answer; it finds the write at its next check."""

    code = "wake_failed"


class ServeUnavailable(LictorError):  # noqa: N818 - the same
    """`lictor serve` does not answer, or says why it cannot do what it was asked."""

    code = "serve_unavailable"


class TrialFailed(LictorError):  # noqa: N818 - the same
    """An OPA to try rules out on did not come up."""

    code = "trial_failed"


class NotEffective(LictorError):  # noqa: N818 - the same
    """The write stands and is published, but an instance may still answer without it."""

    code = "not_effective"


class DemoFailed(LictorError):  # noqa: N818 - the same
    """A part of the demo did not come up; the message holds the last of its log."""

    code = "demo_failed"


class MCPServerError(LictorError):
    """The tools of an MCP server cannot be listed; the message says why, and holds no bearer."""

    code = "mcp_server_error"
