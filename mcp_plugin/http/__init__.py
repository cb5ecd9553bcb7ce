"""Callers over HTTP and stdio: bearers, requests, sessions."""
