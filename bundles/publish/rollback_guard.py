"""Whether the registry is still the one that was published, and not an earlier state of it.

A backup that is put back undoes revocations. Its revision may have passed the old one again before
anyone notices; the hash chain of the log distinguishes the two.
"""

from typing import Any

from bundles.exceptions import PublishingHeldError
from bundles.publish.signing import Bundle, data_of
from registry import Registry, RegistryVersion
from registry.changelog import GENESIS


class RollbackGuard:
    """The state of the registry that was published last.

    Attributes:
        version: its epoch and revision.
        head: the hash of the log's newest entry then.
        held: why nothing more is published; empty while nothing is held.
    """

    def __init__(self, version: RegistryVersion, head: str = GENESIS) -> None:
        self.version = version
        self.head = head
        self.held = ""

    @property
    def header(self) -> dict[str, Any]:
        """The part that a bundle carries."""
        return {"epoch": self.version.epoch, "revision": self.version.revision, "head": self.head}

    def reach(self, version: RegistryVersion, head: str) -> None:
        """Go on to a later state."""
        self.version, self.head, self.held = version, head, ""

    async def check(self, registry: Registry, version: RegistryVersion) -> None:
        """Check that a registry that is at `version` has what was published in its past.

        Raises:
            PublishingHeldError: it has not.
            RegistryError: its log cannot be read.
        """
        if version < self.version:
            now, before = map(format_version, (version, self.version))
            raise self._hold(f"it is at {now}, and {before} was published")
        if version == self.version:
            self.held = ""
            return
        revision = self.version.revision
        entries = await registry.log(after=revision - 1, limit=1)
        found = entries[0].hash if entries and entries[0].revision == revision else GENESIS
        if found != self.head:
            raise self._hold(f"its log has another entry at revision {revision} than was published")
        self.held = ""

    def _hold(self, why: str) -> PublishingHeldError:
        self.held = (
            f"the registry is not the one that was published: {why}. If an older state was "
            "restored on purpose, run: lictor registry accept"
        )
        return PublishingHeldError(self.held)


def format_version(version: RegistryVersion) -> str:
    """A state of the registry as a bundle's revision: `"1:812"`."""
    return f"{version.epoch}:{version.revision}"


def state_in(bundle: Bundle) -> tuple[RegistryVersion, str | None]:
    """Return the state of the registry that a `live` or base bundle holds, and its log's head."""
    document = data_of(bundle.content)["registry"]
    for part in bundle.name.split("-"):
        document = document[part]
    version = RegistryVersion(document.get("epoch", -1), document.get("revision", -1))
    return version, document.get("head")
