package system.authz_test

import data.system.authz

test_what_is_not_allowed_is_false_and_not_undefined if {
	authz.allow == false with input as {} with data.local.clients as {}
}

test_health_and_metrics_are_read_and_nothing_else if {
	every path in [["health"], ["metrics"]] {
		_observes("GET", path)
		every method in ["POST", "PUT", "DELETE", "PATCH"] {
			not _observes(method, path)
		}
	}
	not _observes("GET", ["v1", "data"])
	not _observes("GET", ["v1", "config"])
}

_observes(method, path) if {
	authz.allow with input as {"identity": "looks", "method": method, "path": path, "params": {}}
		with data.local.clients as {crypto.sha256("looks"): "observe"}
}
