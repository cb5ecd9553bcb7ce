"""Which Neo4j it is going to be."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .jars import JarsMissingError, jars
from .servers import DockerServer, GivenServer, JavaServer, docker_image

URL = "LICTOR_TEST_NEO4J_URL"


class Neo4jUnavailableError(Exception):
    """No Neo4j can be had here; the message says all that was tried."""


@contextmanager
def running_neo4j(heap="512m", folder=None):
    """A Neo4j that answers, until the context ends.

    Args:
        heap: Java's heap, and as much again for the page cache, such as `512m` or `2g`.
        folder: where its data is kept; by default a new one, which is removed afterwards.

    Yields:
        A server with `url`, `start()`, and `kill()` where it is ours: see its `must_be_ours()`.

    Raises:
        Neo4jUnavailableError: there is none here.
        NotStartedError: there is one, and it does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="lictor-neo4j-") as own:
        server = _server(heap, Path(folder or own))
        stop = server.stop if folder else server.end
        try:
            server.start()
            yield server
        finally:
            stop()


def _server(heap, folder):
    if url := os.environ.get(URL):
        return GivenServer(url)
    tried = [f"{URL} is not set"]
    if (image := docker_image(tried)) is not None:
        return DockerServer(image, heap, folder)
    try:
        return JavaServer(jars(), heap, folder)
    except JarsMissingError as error:
        tried.append(str(error))
    raise Neo4jUnavailableError(f"no Neo4j for tests: {'; '.join(tried)}")
