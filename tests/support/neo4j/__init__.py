"""A real Neo4j for tests and benchmarks, from wherever this machine can get one.

In this order: the URL in `LICTOR_TEST_NEO4J_URL` (no authentication; **all that is in it is deleted**);
Docker, if its daemon answers and an image `neo4j:5…` is there; Java 17, with the jars that Maven gets once.

    with running_neo4j() as server:
        server.url      # bolt://127.0.0.1:PORT
        server.kill()   # as kill -9 does; what was committed stays
        server.start()  # again, on the same data and the same port
"""

from .find import Neo4jUnavailableError, running_neo4j

__all__ = ["Neo4jUnavailableError", "running_neo4j"]
