"""The registry in Neo4j; `docs/reference/graph.md` has the graph."""
