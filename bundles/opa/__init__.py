"""The OPA binary: how it is found, configured and started."""
