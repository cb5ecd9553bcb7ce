"""The errors of the `lictor` command, beside those of the packages that it uses."""


class LictorError(Exception):
    """The base of this package's errors, never raised itself; `code` is stable."""

    code = "lictor_error"


class NotInitialisedError(LictorError):
    """The state directory is missing or incomplete; the message says how to make one."""

    code = "not_initialised"


class AlreadyInitialisedError(LictorError):
    """`lictor init` would overwrite something."""

    code = "already_initialised"


class AlreadyRunningError(LictorError):
    """A process of this state directory already runs."""

    code = "already_running"


class InvalidArgumentError(LictorError):
    """An argument is invalid in a way that its type does not express."""

    code = "invalid_argument"


class KeyFileUnusableError(LictorError):
    """A JWK set cannot be read or written; the message names the file, never its content."""

    code = "key_file_unusable"


class NoSigningKeyError(LictorError):
    """The issuer has no active signing key with a private part here."""

    code = "no_signing_key"


class WakeFailedError(LictorError):
    """The write stands, but `lictor serve` did not answer; it finds the write at its next check."""

    code = "wake_failed"


class ServeUnavailableError(LictorError):
    """`lictor serve` does not respond, or cannot do what was requested."""

    code = "serve_unavailable"


class TrialFailedError(LictorError):
    """An OPA to try rules out did not start, or cannot load the bundles."""

    code = "trial_failed"


class NotEffectiveError(LictorError):
    """The write stands and is published, but an instance may still answer without it."""

    code = "not_effective"


class DemoFailedError(LictorError):
    """A part of the demo did not start; the message holds the end of its log."""

    code = "demo_failed"


class MCPServerError(LictorError):
    """The tools of an MCP server cannot be listed; the message says why, and holds no bearer."""

    code = "mcp_server_error"
