"""Neo4j as a folder of jars, got with Maven once and kept in the cache."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

VERSION = "5.26.12"  # as in pom.xml
HERE = Path(__file__).parent
_MINUTES = 10 * 60


class JarsMissingError(Exception):
    """They are not in the cache and cannot be got."""


def jars():
    """The folder with Neo4j's jars and our `Main.class`.

    Raises:
        JarsMissingError: there is no Java, or no Maven, or Maven cannot get them.
    """
    for program in ("java", "javac"):
        if shutil.which(program) is None:
            raise JarsMissingError(f"{program} is not installed (a JDK 17)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lictor"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"neo4j-{VERSION}"
    with _alone(cache / f".neo4j-{VERSION}.lock"):
        if not folder.exists():
            _copy_jars(folder)
        _compile(folder)
    return folder


@contextmanager
def _alone(path):
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_jars(folder):
    if shutil.which("mvn") is None:
        raise JarsMissingError("mvn is not installed (Maven 3)")
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        shutil.copy(HERE / "pom.xml", draft)
        goal = ["dependency:copy-dependencies", "-DoutputDirectory=jars", "-DincludeScope=runtime"]
        _run(["mvn", "-q", "-B", *goal], "Maven could not get Neo4j", cwd=draft)
        Path(draft, "jars").rename(folder)


def _compile(folder):
    """Compile the server's `main`, again when it has changed."""
    source, made = HERE / "Main.java", folder / "Main.java"
    if not made.exists() or made.read_bytes() != source.read_bytes():
        _run(
            ["javac", "-cp", f"{folder}/*", "-d", str(folder), str(source)],
            "javac could not compile Main.java",
        )
        shutil.copy(source, made)


def _run(command, failure, **options):
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=_MINUTES, **options,
    )  # fmt: skip
    if done.returncode:
        reported = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        raise JarsMissingError(f"{failure}: {reported[0]}")
