"""The OPA instances: their credentials, what each of them runs, and when a change is effective."""
