"""Errors of rules at run time, from the end of the decisions that are recorded on this host."""

import os
from pathlib import Path
from typing import Any

import orjson

TAIL = 1 << 20
"""Bytes that are read from the end: the last few thousand decisions."""


def recent_errors(record: Path) -> dict[str, Any] | None:
    """Count the answers among the last ones that a rule's error prevented.

    OPA's status reports do not have them: they are in OPA's answers, and so in the records.

    Args:
        record: a file as `pdp_client.FileRecord` writes it.

    Returns:
        `failed` of the last `decisions`, and `code`, `file`, `row` and `at` (seconds since 1970) of
        the `last` one that failed; None if none did, or the file does not exist.
    """
    try:
        with record.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read(TAIL).split(b"\n")
    except OSError:
        return None
    decisions, failed, last = 0, 0, None
    for line in lines:
        try:
            entry = orjson.loads(line)
            at = float(entry["at"])
            decisions += 1
            error = entry["errors"][0]
            place = {
                "code": str(error["code"]),
                "file": str(error["file"]),
                "row": int(error["row"]),
            }
        except (ValueError, LookupError, TypeError):
            # The first line may be cut, the last not whole; and most have no error.
            continue
        failed, last = failed + 1, {**place, "at": at}
    return {"failed": failed, "decisions": decisions, "last": last} if last else None
