"""The parts that every command shares: settings, output, the registry, the wake-up."""

import getpass
import sys
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from lictor.admin import Admin
from lictor.exceptions import InvalidArgumentError, ServeUnavailableError, WakeFailedError
from lictor.notify import RevisionNotifier
from lictor.settings import Settings, require
from lictor.state_dir import registry_opener
from lictor_common.text import printable, printable_json
from registry import Registry
from registry.operations import Operator

_SETTINGS = Group(
    "Settings", help="Each has a `LICTOR_*` variable and a line in `lictor.toml`.", sort_key=9
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """The flags that every command has."""

    state: Annotated[Path | None, Parameter(help="The state directory.")] = None
    format: Annotated[
        Literal["text", "json"], Parameter(help="`json` prints one object or array.")
    ] = "text"
    registry: Annotated[
        str | None, Parameter(group=_SETTINGS, help="`sqlite:///` and the file's path.")
    ] = None
    keys: Annotated[Path | None, Parameter(group=_SETTINGS, help="The folder of keys.")] = None
    site: Annotated[Path | None, Parameter(group=_SETTINGS, help="The site's own rules.")] = None
    opa_url: Annotated[str | None, Parameter(group=_SETTINGS, help="Where OPA listens.")] = None
    bundles_url: Annotated[
        str | None, Parameter(group=_SETTINGS, help="Where `lictor serve` listens.")
    ] = None

    @cached_property
    def settings(self) -> Settings:
        """Flags, then `LICTOR_*` variables, then the TOML file.

        Raises:
            InvalidArgumentError: one of them cannot be used.
        """
        names = ("state", "registry", "keys", "site", "opa_url", "bundles_url")
        flags = {name: getattr(self, name) for name in names}
        try:
            return Settings(**{name: flag for name, flag in flags.items() if flag is not None})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            setting = ".".join(map(str, first["loc"]))
            raise InvalidArgumentError(f"setting {setting}: {first['msg']}") from None
        except tomllib.TOMLDecodeError as error:
            raise InvalidArgumentError(f"lictor.toml: {error}") from None

    @cached_property
    def notifier(self) -> RevisionNotifier:
        """The notifier that publishes this command's writes to Redis."""
        return RevisionNotifier(self.settings)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Registry]:
        """The registry, for reading."""
        require(self.settings)
        async with aclosing(await registry_opener(self.settings)()) as registry:
            yield registry

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Operator]:
        """The registry, for writing as the user who runs the command."""
        async with self.reading() as registry:
            yield Operator(registry, actor=getpass.getuser(), committed=self.notifier.notify)

    def show(self, value: Any) -> None:
        """Print one result on stdout: an object or a list of objects."""
        shown = as_plain(value)
        if self.format == "json":
            print(printable_json(shown))
        elif isinstance(shown, list):
            show_table(shown)
        else:
            for key, one in shown.items():
                print(f"{printable(str(key))}: {_text(one)}")

    async def wake(self, *, revoking: bool = False) -> None:
        """Have `lictor serve` publish what was just written.

        Args:
            revoking: the write takes something away. Then a `lictor serve` that does not run is a
                failure; else only a note is printed, since it publishes everything at its start.

        Raises:
            WakeFailedError: the write stands, and is not published.
        """
        admin = Admin(self.settings.admin_socket)
        if not admin.there:
            if revoking:
                raise WakeFailedError(
                    "the change is in the registry, but lictor serve does not run here: "
                    "nothing is revoked before it starts"
                )
            note("lictor serve does not run here; it will publish this when it starts")
            return
        try:
            await admin.wake()
        except ServeUnavailableError as error:
            raise WakeFailedError(
                f"the change is in the registry, but not published: {error}; "
                "while it runs, it checks by itself every second"
            ) from None
        self.require_notified()

    def require_notified(self) -> None:
        """Fail where Redis does not know of the write.

        Raises:
            WakeFailedError: the write stands, and MCP servers that read Redis may not know of it.
        """
        if self.notifier.error:
            raise WakeFailedError(
                "the change is in the registry and published, but Redis could not be notified: "
                f"{self.notifier.error}; until lictor serve updates it, MCP servers may not know"
            )


def note(text: str) -> None:
    """Print a message that is not a result on stderr, after the output so far."""
    sys.stdout.flush()
    # Messages quote files, names and other programs.
    print("lictor: " + "\n".join(map(printable, text.split("\n"))), file=sys.stderr)


def as_plain(value: Any) -> Any:
    """A value as JSON has it: records as objects."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple):
        return [as_plain(one) for one in value]
    return value


def show_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print objects of one shape as a table."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_text(one) for one in row.values()))
    # Piped, a row is a row, however long.
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 1000).print(table)


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return printable(", ".join(map(str, value))) or "-"
        case _:
            return printable(str(value))
