package lictor.registry_test

import data.lictor.registry

# Moments to the nanosecond: what the limits include, and what they do not.

_second := 1000000000

_long_limits := {"staleness_limit": 3600, "reconcile_limit": 3600}

test_data_is_recent_up_to_its_limit if {
	every moment, limit in {"synced_at_ns": "staleness_limit", "reconciled_at_ns": "reconcile_limit"} {
		settings := object.union(_long_limits, {limit: 30})
		beat := object.union({"synced_at_ns": 100, "reconciled_at_ns": 100}, {moment: 0})
		_fresh_at(30 * _second, {"settings": settings}, beat)
		not _fresh_at((30 * _second) + 1, {"settings": settings}, beat)
		every odd in ["30", null, true] {
			not _fresh_at(30 * _second, {"settings": object.union(settings, {limit: odd})}, beat)
		}
	}
}

test_data_may_come_five_seconds_from_the_future if {
	every moment in ["synced_at_ns", "reconciled_at_ns"] {
		beat := object.union({"synced_at_ns": 0, "reconciled_at_ns": 0}, {moment: 5 * _second})
		_fresh_at(0, {}, beat)
		not _fresh_at(-1, {}, beat)
	}
}

test_moments_are_numbers if {
	every moment in ["synced_at_ns", "reconciled_at_ns"] {
		every odd in ["6", null, true, [], {}] {
			not _fresh_at(6, {}, {moment: odd})
		}
	}
}

test_age_is_in_whole_milliseconds if {
	_age_ms(1500000) == 2
	_age_ms(1499999) == 1
	_age_ms(2499999) == 2
	_age_ms(0) == 0
}

test_age_without_a_heartbeat_is_null if {
	registry.age_ms == null with data.registry as {}
	registry.age_ms == null with data.registry as {"heartbeat": {"synced_at_ns": "5"}}
}

test_data_holds_until_the_earlier_of_both_limits if {
	_deadline(100, 50, 30, 600) == 130
	_deadline(100, 50, 30, 60) == 110
}

test_a_moment_is_ahead_until_it_comes if {
	registry.in_future(5) with time.now_ns as (5 * _second) - 1
	not registry.in_future(5) with time.now_ns as 5 * _second
}

test_a_record_is_looked_up_in_its_own_shard if {
	base := {"01": {"users": {"bob": {"name": "Bob"}}}, "00": {"users": {"eve": {"name": "Eve"}}}}
	dataset := {"live": {"since": _sixty_four}, "base": base}
	registry.record("users", "bob").name == "Bob" with data.registry as dataset
	not registry.record("users", "eve") with data.registry as dataset
}

test_two_shards_take_half_each if {
	live := {"since": {"00": 7, "01": 7}}
	registry.shard("tokens", "01") == "01" with data.registry.live as live
	registry.shard("tokens", "fe") == "00" with data.registry.live as live
	registry.shard("users", "ada") == "01" with data.registry.live as live
}

test_no_shard_takes_anything_where_there_is_none if {
	every kind in ["users", "tokens"] {
		registry.shard(kind, crypto.sha256("alice")) == "none" with data.registry.live as {"since": {}}
		registry.shard(kind, crypto.sha256("alice")) == "none" with data.registry.live as {}
	}
}

_age_ms(age) := age_ms if {
	age_ms := registry.age_ms with data.registry as {"heartbeat": {"synced_at_ns": 7}} with time.now_ns as age + 7
}

_deadline(synced, reconciled, staleness, reconcile) := deadline if {
	deadline := registry.deadline with data.registry as {
		"live": {"settings": {"staleness_limit": staleness, "reconcile_limit": reconcile}},
		"heartbeat": {"synced_at_ns": synced * _second, "reconciled_at_ns": reconciled * _second},
	}
}
