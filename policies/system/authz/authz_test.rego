package system.authz_test

import data.system.authz

_clients := {crypto.sha256("asks"): "query", crypto.sha256("looks"): "observe"}

_strict := {"strict-builtin-errors": ["true"]}

test_a_query_token_asks_for_decisions_and_nothing_else if {
	_allowed("asks", "POST", ["v1", "data", "lictor", "decision"], _strict)
	_allowed("asks", "POST", ["v1", "data", "lictor", "visible"], _strict)
	_allowed("asks", "POST", ["v1", "data", "lictor", "callers"], _strict)
	_allowed("asks", "GET", ["health"], {})
	not _allowed("asks", "GET", ["v1", "data", "registry"], _strict)
	not _allowed("asks", "POST", ["v1", "data"], _strict)
	not _allowed("asks", "PUT", ["v1", "data", "lictor", "decision"], _strict)
	not _allowed("asks", "GET", ["v1", "data", "lictor", "decision"], _strict)
	not _allowed("asks", "PUT", ["v1", "policies", "x"], {})
	not _allowed("asks", "POST", ["v1", "query"], {})
	not _allowed("asks", "GET", ["metrics"], {})
}

test_a_query_has_exactly_the_parameters_of_the_client if {
	every params in [
		{},
		{"strict-builtin-errors": ["false"]},
		{"strict-builtin-errors": ["TRUE"]},
		{"strict-builtin-errors": [""]},
		{"strict-builtin-errors": ["true", "true"]},
		{"strict-builtin-errors": ["true"], "explain": ["debug"]},
		{"strict-builtin-errors": ["true"], "explain": [""]},
		{"strict-builtin-errors": ["true"], "metrics": ["true"]},
		{"strict-builtin-errors": ["true"], "instrument": ["true"]},
		{"strict-builtin-errors": ["true"], "provenance": ["true"]},
		{"strict-builtin-errors": ["true"], "pretty": ["true"]},
		{"strict-builtin-errors": ["true"], "unknown": ["x"]},
		{"explain": ["full"]},
	] {
		not _allowed("asks", "POST", ["v1", "data", "lictor", "decision"], params)
		not _allowed("asks", "POST", ["v1", "data", "lictor", "visible"], params)
		not _allowed("asks", "POST", ["v1", "data", "lictor", "callers"], params)
	}
}

test_an_observing_token_reads_health_and_metrics if {
	_allowed("looks", "GET", ["metrics"], {})
	_allowed("looks", "GET", ["health"], {})
	_allowed("looks", "GET", ["health"], {"bundles": ["true"], "plugins": [""]})
	not _allowed("looks", "GET", ["metrics"], {"explain": ["full"]})
	not _allowed("looks", "GET", ["health"], {"explain": ["full"]})
	not _allowed("looks", "GET", ["health", "ready"], {})
	not _allowed("looks", "POST", ["v1", "data", "lictor", "decision"], _strict)
}

test_any_other_token_does_nothing if {
	not _allowed("guess", "GET", ["health"], {})
	not _allowed("", "POST", ["v1", "data", "lictor", "decision"], _strict)
	not authz.allow with input as {"method": "GET", "path": ["health"], "params": {}} with data.local.clients as _clients
	not authz.allow with input as {"identity": "asks", "method": "GET", "path": ["health"], "params": {}}
}

_allowed(token, method, path, params) if {
	authz.allow with input as {"identity": token, "method": method, "path": path, "params": params}
		with data.local.clients as _clients
}
