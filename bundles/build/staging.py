"""A folder of OPA's own to check and test in: the bytes that were read, under plain names."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundles.build.builtins import restrict_capabilities
from bundles.build.site_folder import SourceFile
from bundles.opa.binary import OPA
from bundles.publish.signing import canonical_json

CHECK_SECONDS = 120.0
"""How long OPA may take to compile."""


@dataclass(frozen=True)
class Stage:
    """A folder that OPA runs in.

    Attributes:
        path: the folder; `capabilities.json` in it is what site rules may use.
        folders: the folders in it that hold Rego, relative to it.
        files: the files by the names that OPA prints.
    """

    path: Path
    folders: list[str]
    files: dict[str, SourceFile]


@contextmanager
def staged(
    opa: OPA, product: Sequence[SourceFile], site: Sequence[SourceFile] = ()
) -> Iterator[Stage]:
    """Write the product's files and a site's to a folder of their own, until the context ends."""
    with tempfile.TemporaryDirectory(prefix="lictor-") as name:
        path = Path(name)
        named = {file.name: file for file in product}
        # A site's name may be anything; a number is not mistaken for a flag, a prefix or a pattern.
        named |= {f"site/{number:05}.rego": file for number, file in enumerate(site)}
        for relative, file in named.items():
            target = path / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
        (path / "capabilities.json").write_bytes(canonical_json(restrict_capabilities(opa)))
        folders = sorted({relative.split("/", 1)[0] for relative in named})
        yield Stage(path, folders, named)
