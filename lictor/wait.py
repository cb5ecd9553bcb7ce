"""`--wait` and `--receipt`: wait until a revocation holds everywhere, and write proof of it."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bundles.fleet.receipt import document
from lictor.admin import Admin
from lictor.console import Common, as_plain, note
from lictor.exceptions import NotEffectiveError, ServeUnavailableError, WakeFailedError
from lictor_common.private_files import write_private
from registry.operations import Done

_RECEIPT_SECONDS = 60.0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WaitOptions:
    """The flags of every command that revokes."""

    wait: Annotated[
        float | None,
        Parameter(help="Wait until it holds on every OPA, for so many seconds (60 if not given)."),
    ] = None
    receipt: Annotated[
        Path | None, Parameter(help="Write a signed receipt to this file; waits as well.")
    ] = None

    @property
    def asked(self) -> bool:
        """Whether there is anything to wait for."""
        return self.wait is not None or self.receipt is not None

    async def report_propagation(
        self, common: Common, shown: dict[str, Any], done: Done[Any]
    ) -> None:
        """Print the result, wait until the write is effective, and print the outcome.

        Raises:
            WakeFailedError: the write stands, but is not published.
            NotEffectiveError: it is published, but not known to hold everywhere within the time.
        """
        effect: dict[str, Any] | None = None
        began = time.monotonic()
        try:
            if common.format == "text":
                # First: a credential is printed only once, so print it whatever happens next.
                common.show(shown)
                sys.stdout.flush()
            effect = await Admin(common.settings.admin_socket).effect(
                epoch=done.version.epoch,
                revision=done.version.revision,
                seconds=_RECEIPT_SECONDS if self.wait is None else self.wait,
                receipt=self.receipt is not None and done.changed,
            )
            # As long as a process may answer from its cache, the write does not hold everywhere.
            await common.notifier.settle()
        except ServeUnavailableError as error:
            raise WakeFailedError(
                f"the change is in the registry, but not published: {error}; "
                "nothing is revoked before it is"
            ) from None
        finally:
            milliseconds = round(1000 * (time.monotonic() - began))
            if common.format == "json":
                rest = {k: v for k, v in (effect or {}).items() if k not in {*shown, "receipt"}}
                print(json.dumps({**as_plain(shown), **rest, "ms": milliseconds}))
        common.require_notified()
        self._conclude(effect, milliseconds, text=common.format == "text")

    def _conclude(self, effect: dict[str, Any], milliseconds: int, *, text: bool) -> None:
        have = len(effect["acknowledged"])
        fleet = f"{have}/{have + len(effect['missing'])}"
        if not effect["effective"]:
            caches = [f"cache {one}" for one in effect["caches_missing"]]
            silent = ", ".join([*effect["missing"], *caches]) or "no instance has reported"
            raise NotEffectiveError(
                f"revision {effect['revision']} is published, and acknowledged by {fleet} within "
                f"{milliseconds} ms; missing: {silent}"
            )
        if text:
            limit = " by the staleness limit" if effect["how"] == "limit" else ""
            print(f"revision {effect['revision']} effective on {fleet} in {milliseconds} ms{limit}")
        if self.receipt is not None:
            if "receipt" not in effect:
                raise NotEffectiveError(
                    "nothing changed, so there is nothing to write a receipt for"
                )
            write_private(self.receipt, document(effect["receipt"]))
            note(f"receipt written to {self.receipt}")
