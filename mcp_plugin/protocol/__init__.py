"""MCP as the plugin sees it: methods, actions, arguments, URIs, headers, state."""
