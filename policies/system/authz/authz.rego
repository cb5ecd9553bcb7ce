# METADATA
# title: Authorization of requests to OPA
# description: |
#   OPA's own authorization policy (`--authorization=basic`). The digests of the tokens that `lictor opa`
#   created are in `data.local.clients`, which no bundle owns; bundles never hold tokens.
package system.authz

# METADATA
# description: True when the presented token's role covers this request.
# entrypoint: true
default allow := false

# Exactly what `pdp_client` sends. With `explain` OPA would return the records and rules that it evaluates, of
# other callers too, and need seconds for it; a query without strict errors would skip rules that fail.
allow if {
	_role == "query"
	input.method == "POST"
	input.path in [
		["v1", "data", "lictor", "decision"],
		["v1", "data", "lictor", "visible"],
		["v1", "data", "lictor", "callers"],
	]
	input.params == {"strict-builtin-errors": ["true"]}
}

allow if {
	_role in {"query", "observe"}
	input.method == "GET"
	input.path == ["health"]
	every name, _ in input.params {
		name in {"bundles", "plugins"}
	}
}

allow if {
	_role == "observe"
	input.method == "GET"
	input.path == ["metrics"]
	input.params == {}
}

_role := data.local.clients[crypto.sha256(input.identity)]
