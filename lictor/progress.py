"""The progress of a full publication: a bar on a terminal, else a line for each tenth."""

import sys
from types import TracebackType
from typing import Self

import structlog
from rich.console import Console
from rich.progress import Progress, TaskID


class PublicationProgress:
    """A context manager; call it with what is done, how much of it, and how much there is."""

    def __init__(self, *, bar: bool = True) -> None:
        self._on_terminal = bar and sys.stderr.isatty()
        self._log = structlog.get_logger("lictor.serve")
        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report that `done` of about `total` are done."""
        if not self._on_terminal:
            tenth = 10 * done // max(1, total)
            if tenth > self._tenths.get(what, -1):
                self._tenths[what] = tenth
                self._log.info(what, done=done, of_about=total)
            return
        self._bar.start()
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done)
