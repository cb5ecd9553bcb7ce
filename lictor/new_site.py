"""`lictor policies new`: a repository for a site's rules, green as made."""

from importlib.metadata import version
from pathlib import Path

from lictor.exceptions import InvalidArgumentError

_TEMPLATE = Path(__file__).parent / "scaffold"


def make_site_repository(folder: Path) -> list[str]:
    """Write an example rule, its tests, stubs, and what CI needs; returns the files' paths.

    Raises:
        InvalidArgumentError: the folder exists and is not empty.
        OSError: a file cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidArgumentError(f"{folder} exists and is not empty; name a new folder")
    written = []
    for source in sorted(path for path in _TEMPLATE.rglob("*") if path.is_file()):
        name = source.relative_to(_TEMPLATE)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8").replace("@VERSION@", version("lictor"))
        target.write_text(text, encoding="utf-8")
        written.append(name.as_posix())
    return written
