"""The operator's tool: the `lictor` command."""
