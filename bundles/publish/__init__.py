"""From the registry to signed bundles: what changed is read, checked, signed and kept."""
