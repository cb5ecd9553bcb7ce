"""Queries to OPA: transports, requests and responses, retries."""
