"""Freshness of decisions: the registry's latest revision, and cached decisions."""
