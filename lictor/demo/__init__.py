"""`lictor demo`: a whole lictor in a fresh directory, and real MCP clients that call through it."""
