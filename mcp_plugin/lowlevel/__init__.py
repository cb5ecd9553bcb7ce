"""Servers of the MCP SDK's own."""
