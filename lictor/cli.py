"""The `lictor` command: results on stdout, all else on stderr, and exit codes that mean something.

0 allowed or done, 1 failure, 2 usage, 3 denied, 4 unauthenticated.
"""

import re
import sys
from importlib.metadata import version
from typing import NoReturn

from cyclopts import App, CycloptsError

from bundles.exceptions import BundleError
from lictor.console import note
from lictor.exceptions import InvalidArgumentError, LictorError
from pdp_client import PDPError
from registry import RegistryError

FAILURE, USAGE = 1, 2

_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")
_WAIT_SECONDS = 60
"""More than the staleness limit by default: when that has passed, a revocation holds anyway."""

app = App(
    name="lictor",
    help="A policy decision point for MCP servers.",
    version=version("lictor"),
    result_action="return_value",
)
# By name, so that a revocation does not first import a web server and an MCP client. The texts are
# here since they are wanted before the modules are.
for module, verbs in {
    "records": {
        "user": "People and service accounts.",
        "workspace": "Groups of libraries that teams are assigned to.",
        "library": "Libraries, each in one workspace.",
        "team": "Teams, and the one JWT that each has.",
        "token": "Opaque tokens of users.",
        "lockdown": "Stop everything but public tools, or go on.",
    },
    "keys": {"key": "Keys that sign JWTs."},
    "init": {"init": "Make a state directory with keys, settings and an empty registry."},
    "serve": {"serve": "Publish the registry as signed bundles, until stopped."},
    "opa": {"opa": "Find or build OPA, and run it, joined to `lictor serve`."},
    "registry": {"registry": "The registry as a whole: export, import, check."},
    "policies": {"policies": "The Rego: make, check, build, sign, test."},
    "fleet": {
        "status": "What is published, what each OPA runs, and what is wrong.",
        "instance": "OPAs that fetch from `lictor serve`.",
        "receipt": "Signed receipts of revocations.",
    },
    "decide": {"decide": "Decide a call for the bearer on standard input."},
    "demo": {"demo": "Watch MCP clients being allowed and refused by a real OPA."},
}.items():
    for verb, text in verbs.items():
        app.command(f"lictor.commands.{module}:{verb}", help=text)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    sys.exit(run(arguments))


def _with_seconds(arguments: list[str] | None) -> list[str]:
    """`--wait` may stand without its seconds, which no parser of annotations can say."""
    given = sys.argv[1:] if arguments is None else arguments
    return [
        f"--wait={_WAIT_SECONDS}" if one == "--wait" and not _NUMBER.fullmatch(after) else one
        for one, after in zip(given, [*given[1:], ""], strict=True)
    ]


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(_with_seconds(arguments), exit_on_error=False, print_error=True)
    except (CycloptsError, InvalidArgumentError) as error:
        if isinstance(error, InvalidArgumentError):
            note(str(error))
        return USAGE
    except (LictorError, RegistryError, BundleError, PDPError) as error:
        note(str(error))
        return FAILURE
    except OSError as error:
        note(f"{error.filename or 'file'}: {error.strerror}")
        return FAILURE
    return code if isinstance(code, int) else 0
