"""From a bearer to a decision: verify it, ask OPA, fail closed."""
