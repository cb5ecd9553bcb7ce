"""The verbs of the `lictor` command, a module for each group."""
