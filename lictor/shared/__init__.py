"""What MCP servers share through `lictor serve`, where it is the only one: no Redis is needed."""
