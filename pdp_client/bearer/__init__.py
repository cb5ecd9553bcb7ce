"""Bearers: parsing, keys, signatures, claims, replay."""
