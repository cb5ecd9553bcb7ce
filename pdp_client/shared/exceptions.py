"""The errors of the state that instances share."""

from pdp_client.exceptions import PDPError


class SharedStateUnavailableError(PDPError):
    """The shared state did not respond in time, or its response is not trustworthy."""

    code = "redis_unavailable"


class ServeUnreachableError(SharedStateUnavailableError):
    """`lictor serve` did not respond in time, or its response is not trustworthy."""

    code = "serve_unavailable"
