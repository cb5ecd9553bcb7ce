"""The errors of the `lictor` command, beside those of the packages that it uses.

```
LictorError                 never raised itself; every subclass carries a stable `code`
├── NotInitialisedError     the state directory is missing or incomplete
├── AlreadyInitialisedError `lictor init` would overwrite something
├── AlreadyRunningError     a process of this state directory runs
├── InvalidArgumentError    an argument that no flag's type could refuse
├── KeyFileUnusableError    a file of signing keys cannot be read or written
├── NoSigningKeyError       no key is there to mint a team's JWT with
├── ServeUnavailableError   `lictor serve` does not answer, or could not do what was requested
├── WakeFailedError         the registry was written, `lictor serve` could not be notified
├── TrialFailedError        an OPA to try rules out does not start, or cannot load the bundles
├── NotEffectiveError       a revocation was published, and is not known to hold everywhere
├── MCPServerError          the tools of an MCP server cannot be listed
└── DemoFailedError         a part of the demo did not come up
```
"""


class LictorError(Exception):
    """The base of this package's errors; `code` is stable."""

    code = "lictor_error"


class NotInitialisedError(LictorError):
    """The state directory is missing; the message says how to make one."""

    code = "not_initialised"


class AlreadyInitialisedError(LictorError):
    """The state directory is in use."""

    code = "already_initialised"


class AlreadyRunningError(LictorError):
    """Another process has the place that this one would take."""

    code = "already_running"


class InvalidArgumentError(LictorError):
    """An argument cannot be used as it is."""

    code = "invalid_argument"


class KeyFileUnusableError(LictorError):
    """A JWK set cannot be read or written; the message names the file, never its content."""

    code = "key_file_unusable"


class NoSigningKeyError(LictorError):
    """The private part of an active signing key of the issuer is missing."""

    code = "no_signing_key"


class WakeFailedError(LictorError):
    """The write stands, but `lictor serve` did not answer; it finds the write at its next check."""

    code = "wake_failed"


class ServeUnavailableError(LictorError):
    """`lictor serve` does not answer, or says why it cannot do what it was asked."""

    code = "serve_unavailable"


class TrialFailedError(LictorError):
    """An OPA to try rules out on did not come up."""

    code = "trial_failed"


class NotEffectiveError(LictorError):
    """The write stands and is published, but an instance may still answer without it."""

    code = "not_effective"


class DemoFailedError(LictorError):
    """A part of the demo did not come up; the message holds the last of its log."""

    code = "demo_failed"


class MCPServerError(LictorError):
    """The tools of an MCP server cannot be listed; the message says why, and holds no bearer."""

    code = "mcp_server_error"
