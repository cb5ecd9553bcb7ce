package system.authz_test

import data.system.authz

_clients := {crypto.sha256("asks"): "query", crypto.sha256("looks"): "observe"}

test_a_query_token_asks_for_decisions_and_nothing_else if {
	_allowed("asks", "POST", ["v1", "data", "lictor", "decision"])
	_allowed("asks", "POST", ["v1", "data", "lictor", "visible"])
	_allowed("asks", "GET", ["health"])
	not _allowed("asks", "GET", ["v1", "data", "registry"])
	not _allowed("asks", "POST", ["v1", "data"])
	not _allowed("asks", "PUT", ["v1", "data", "lictor", "decision"])
	not _allowed("asks", "PUT", ["v1", "policies", "x"])
	not _allowed("asks", "POST", ["v1", "query"])
	not _allowed("asks", "GET", ["metrics"])
}

test_an_observing_token_reads_health_and_metrics if {
	_allowed("looks", "GET", ["metrics"])
	_allowed("looks", "GET", ["health"])
	not _allowed("looks", "POST", ["v1", "data", "lictor", "decision"])
}

test_any_other_token_does_nothing if {
	not _allowed("guess", "GET", ["health"])
	not _allowed("", "POST", ["v1", "data", "lictor", "decision"])
	not authz.allow with input as {"method": "GET", "path": ["health"]} with data.local.clients as _clients
	not authz.allow with input as {"identity": "asks", "method": "GET", "path": ["health"]}
}

_allowed(token, method, path) if {
	authz.allow with input as {"identity": token, "method": method, "path": path} with data.local.clients as _clients
}
