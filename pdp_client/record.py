"""The record of each decision: one line of JSON, written before the tool runs.

It holds enough to repeat the query, but neither bearers nor arguments: a token is its digest, a JWT
its verified claims, arguments are a hash. Lines are written, not synced: a crash of the process
loses nothing, a crash of the machine may lose the last lines.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from pdp_client.bearer.verifier import Credential
from pdp_client.decision import Action, Context, Decision, Visible
from pdp_client.exceptions import RecordFailed, RuleError
from pdp_client.opa.limits import cut, is_too_large
from pdp_client.reasons import Reason, ReasonClass

# Made once: json.dumps makes one for each call that has any option.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_SORTED = json.JSONEncoder(separators=(",", ":"), sort_keys=True)


class DecisionRecord(Protocol):
    """The destination of decision records."""

    def write(self, entry: Mapping[str, Any]) -> None:
        """Write one entry, whole or not at all.

        Raises:
            RecordFailed: it could not be written; the decision must not take effect.
        """
        ...

    def close(self) -> None:
        """Release all resources."""
        ...


class FileRecord:
    """An append-only file with one JSON object a line, mode 0600.

    Several processes may append to one file: a line is one `write` with `O_APPEND`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file; create it if it does not exist.

        Raises:
            RecordFailed: the file cannot be opened.
        """
        self._torn = False
        try:
            self._file = os.open(Path(path), os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        except OSError as error:
            raise RecordFailed(f"{path}: {error.strerror}") from None

    def write(self, entry: Mapping[str, Any]) -> None:
        """As `DecisionRecord.write`."""
        try:
            line = _ENCODER.encode(entry).encode() + b"\n"
        except (TypeError, ValueError, RecursionError):
            raise RecordFailed("the entry is not JSON") from None
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise RecordFailed(str(error.strerror)) from None
        # A partial line, left by a full disk, must not corrupt the next one too.
        self._torn = written != len(line)
        if self._torn:
            raise RecordFailed("only a part of the line was written")

    def close(self) -> None:
        """As `DecisionRecord.close`."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def entry(
    decision: Decision,
    *,
    at: float,
    took_ms: float,
    action: Action,
    context: Context,
) -> dict[str, Any]:
    """Return the entry for one decision.

    Args:
        decision: the decision.
        at: when it was made, in seconds since 1970.
        took_ms: how long it took, in milliseconds.
        action: the requested action.
        context: the context of the action.
    """
    principal, credential = decision.principal, decision.credential
    return {
        "id": decision.decision_id,
        "at": round(at, 6),
        "took_ms": round(took_ms, 3),
        "credential": _credential(credential, decision.reason),
        "principal": str(principal) if principal else "anonymous",
        "action": action.as_input(arguments=False),
        "arguments_hash": arguments_hash(action.arguments),
        "context": context.as_input(),
        "allow": decision.allow,
        "reason": decision.reason.value,
        "reasons": list(decision.reasons),
        "libraries": list(decision.libraries),
        "epoch": decision.epoch,
        "revision": decision.revision,
        "policy": decision.policy,
        "site": decision.site,
        "data_age_ms": decision.data_age_ms,
        **({"shadowed": True} if decision.shadowed else {}),
        **_errors(decision.errors),
    }


def list_entry(
    visible: Visible,
    actions: Sequence[Action],
    *,
    credential: Credential | None,
    id_: str,
    at: float,
    took_ms: float,
    context: Context,
) -> dict[str, Any]:
    """Return the entry for one list; it has no `reason`, as listing is not a use of a token.

    Args:
        visible: what is visible.
        actions: the actions of the list.
        credential: the credential that the bearer proved, if any.
        id_: this entry's id.
        at: when it was decided, in seconds since 1970.
        took_ms: how long it took, in milliseconds.
        context: the context of the list.
    """
    shown = set(visible.indices)
    hidden = _by_method(one for index, one in enumerate(actions) if index not in shown)
    shadowed = _by_method(actions[index] for index in visible.shadowed)
    listed = {"reason": visible.reason.value, "shown": len(shown), "hidden": hidden}
    return {
        "id": id_,
        "at": round(at, 6),
        "took_ms": round(took_ms, 3),
        "credential": _credential(credential, visible.reason),
        "context": context.as_input(),
        "list": {**listed, "shadowed": shadowed} if shadowed else listed,
        "epoch": visible.epoch,
        "revision": visible.revision,
        **_errors(visible.errors),
    }


def _errors(errors: Sequence[RuleError]) -> dict[str, list[dict[str, Any]]]:
    return {"errors": [asdict(error) for error in errors]} if errors else {}


def _by_method(actions: Iterable[Action]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for action in actions:
        one = cut(action) if is_too_large(action) else action
        names.setdefault(one.method, []).append(one.name)
    return names


def _credential(credential: Credential | None, reason: Reason) -> dict[str, Any]:
    if credential is not None:
        return credential.as_input()
    # A bearer that Python refused is distinguished from none, as in the query for a list.
    refused = (
        reason.reason_class is ReasonClass.AUTHENTICATION and reason is not Reason.MISSING_TOKEN
    )
    return {"kind": "anonymous", "rejected": True} if refused else {"kind": "anonymous"}


def arguments_hash(arguments: Mapping[str, Any] | None) -> str | None:
    """Return the SHA-256 of the arguments as JSON with sorted keys, in hex; None without any."""
    if arguments is None:
        return None
    try:
        text = _SORTED.encode(arguments)
    except (TypeError, ValueError, RecursionError):
        # Not JSON: no rule can have read them.
        return None
    return hashlib.sha256(text.encode()).hexdigest()
