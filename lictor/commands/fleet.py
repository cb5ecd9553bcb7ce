"""`lictor status`, `instance` and `receipt`: what each OPA runs, and proof of revocations."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from bundles.exceptions import ReceiptInvalidError
from bundles.fleet.credentials import InstanceCredentials
from bundles.fleet.receipt import verify
from lictor.admin import Admin
from lictor.console import Common, note, show_table
from lictor.exceptions import InvalidArgumentError
from lictor.rule_errors import recent_errors
from lictor.settings import require

instance = App(name="instance", help="OPAs that fetch from `lictor serve`.")
receipt = App(name="receipt", help="Signed receipts of revocations.")

_DEFAULT = Common()


async def status(*, common: Common = _DEFAULT) -> None:
    """Show what is published, what each OPA runs, and what is wrong."""
    require(common.settings)
    reply = await Admin(common.settings.admin_socket).status()
    reply["rule_errors"] = recent_errors(common.settings.record)
    if common.format == "json":
        common.show(reply)
        return
    now = time.time()
    instances, problems = reply.pop("instances"), reply.pop("problems")
    if errors := reply.pop("rule_errors"):
        last = errors["last"]
        problems.append(
            f"rules: {errors['failed']} of the last {errors['decisions']} recorded decisions "
            f"failed in a rule, last {last['code']} at {last['file'] or '?'}:{last['row']}, "
            f"{_ago(now, last['at'])}"
        )
    for name in ("synced_at", "reconciled_at"):
        reply[name.replace("_at", "")] = _ago(now, reply.pop(name))
    common.show(reply)
    rows = [
        {
            "instance": one["id"],
            "opa": one["version"],
            "seen": _ago(now, one["seen_at"]),
            "revision": one["revision"],
            "behind": one["behind"],
        }
        for one in instances
    ]
    show_table(rows)
    if not rows:
        note("no OPA has connected yet")
    for problem in problems:
        note(problem)


@instance.command(name="token")
def instance_token(id: str, /, *, common: Common = _DEFAULT) -> None:
    """Print the bearer of an OPA on another host, to be its `opa/bundles.token`.

    Args:
        id: the instance's name in status reports, as `lictor opa --id` gives it.
        common: the flags that every command has.
    """
    require(common.settings)
    try:
        bearer = InstanceCredentials.load(common.settings.instances_key).bearer(id)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from None
    common.show({"id": id, "bearer": bearer})


@receipt.command(name="verify")
def verify_receipt(
    file: Path,
    /,
    *,
    public_key: Annotated[Path | None, Parameter(help="PEM; by default the state's.")] = None,
    common: Common = _DEFAULT,
) -> None:
    """Check a receipt, offline: the author, the revocation, and when each instance had it.

    Args:
        file: the file that `--receipt` wrote.
        public_key: the data key's public half.
        common: the flags that every command has.
    """
    path = public_key or common.settings.bundle_keys / "data.pub.pem"
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
        claims = verify(str(written["receipt"]), path.read_text(encoding="ascii"))
    except (ValueError, KeyError, TypeError) as error:
        raise ReceiptInvalidError(f"{file}: not a receipt ({type(error).__name__})") from None
    common.show(_as_text(claims) if common.format == "text" else claims)


def _as_text(claims: dict[str, Any]) -> dict[str, Any]:
    entry, effect = claims["entry"], claims["effect"]
    return {
        "action": entry["action"],
        "actor": entry["actor"],
        "touched": [f"{kind}/{id_}" for kind, id_ in entry["touched"]],
        "written": _moment(entry["at"]),
        "epoch": effect["epoch"],
        "revision": entry["revision"],
        "log": entry["hash"],
        "published": _moment(effect["published_at"]),
        "effective": effect["how"],
        **{f"instance {id_}": _moment(at) for id_, at in effect["acknowledged"].items()},
        "silent": effect["missing"],
    }


def _moment(at: float) -> str:
    whole, milliseconds = divmod(round(at * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03}Z"


def _ago(now: float, at: float) -> str:
    return f"{max(0.0, now - at):.1f} s ago" if at else "never"
