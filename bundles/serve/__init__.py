"""The HTTP side: bundles for OPA, and the socket that the `lictor` command talks to."""
