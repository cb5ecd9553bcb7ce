"""Size limits for the parts of an action, so that no decision costs OPA more than milliseconds.

OPA matches names with patterns, in a time that grows faster than the name's length. Patterns are
limited where grants are written (`registry.globs`).
"""

from collections.abc import Sequence
from typing import Final

from pdp_client.decision import Action

MAX_NAME: Final = 1024
"""Characters of a name or a URI."""

MAX_TAGS: Final = 64
"""Tags of a component."""

MAX_TAG: Final = 256
"""Characters of a tag, a version or a method."""


def is_too_large(action: Action) -> bool:
    """Return whether an action is too large to query OPA about. No grant covers such an action."""
    if len(action.tags) > MAX_TAGS:
        return True
    # In one function, as a list has hundreds of actions.
    for text, limit in (
        (action.name, MAX_NAME),
        (action.uri, MAX_NAME),
        (action.version, MAX_TAG),
        (action.method, MAX_TAG),
        *[(tag, MAX_TAG) for tag in action.tags],
    ):
        if isinstance(text, str) and len(text) > limit:
            return True
    return False


def cut(action: Action) -> Action:
    """Return a too large action as it is recorded: each part cut to its limit."""
    return Action(
        name=action.name[:MAX_NAME],
        method=action.method[:MAX_TAG],
        tags=[tag[:MAX_TAG] for tag in action.tags[:MAX_TAGS]],
        arguments=action.arguments,
    )


def fitting(actions: Sequence[Action]) -> list[int]:
    """Return the positions of the actions that are not too large."""
    return [index for index, action in enumerate(actions) if not is_too_large(action)]
