# METADATA
# title: Who may ask OPA what
# description: |
#   OPA's own authorization policy (`--authorization=basic`). The digests of the tokens that `lictor opa`
#   made are in `data.local.clients`, which no bundle owns; no token is in any bundle.
package system.authz

# METADATA
# description: True when the presented token's role covers this request.
# entrypoint: true
default allow := false

allow if {
	_role == "query"
	input.method == "POST"
	input.path in [["v1", "data", "lictor", "decision"], ["v1", "data", "lictor", "visible"]]
}

allow if {
	_role in {"query", "observe"}
	input.method == "GET"
	input.path[0] == "health"
}

allow if {
	_role == "observe"
	input.method == "GET"
	input.path == ["metrics"]
}

_role := data.local.clients[crypto.sha256(input.identity)]
