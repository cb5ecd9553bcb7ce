"""Policy and site bundles: what is checked before they are signed."""
