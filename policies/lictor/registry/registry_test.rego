package lictor.registry_test

import data.lictor.registry

_sixty_four[id] := 7 if {
	some n in numbers.range(0, 63)
	id := sprintf("%02x", [n])
}

test_one_shard_takes_everything if {
	registry.shard("users", "ada") == "00" with data.registry.live as {"since": {"00": 7}}
	registry.shard("tokens", crypto.sha256("alice")) == "00" with data.registry.live as {"since": {"00": 7}}
}

test_a_token_falls_into_the_shard_of_its_digest if {
	cases := {"00": "00", "3f": "3f", "40": "00", "ff": "3f", "7b": "3b"}
	every byte, shard in cases {
		digest := concat("", [byte, substring(crypto.sha256("x"), 2, -1)])
		registry.shard("tokens", digest) == shard with data.registry.live as {"since": _sixty_four}
	}
}

test_any_other_id_falls_into_the_shard_of_its_hash if {
	startswith(crypto.sha256("ada"), sprintf("%02x", [_first("ada")]))
	registry.shard("users", "ada") == sprintf("%02x", [_first("ada") % 64])
		with data.registry.live as {"since": _sixty_four}
}

test_a_shard_without_live_does_not_fit if {
	every live in [{}, {"epoch": 2}, {"epoch": 2, "since": {}}] {
		dataset := {"live": live, "base": {"00": {"epoch": 2, "revision": 7}}}
		not registry.all_shards_are_current with data.registry as dataset
		not registry.shard_is_current(registry.shard("users", "ada")) with data.registry as dataset
		not registry.shard_is_current(registry.shard("tokens", crypto.sha256("alice"))) with data.registry as dataset
	}
}

test_live_comes_before_base if {
	dataset := {
		"live": {"since": {"00": 7}, "users": {"ada": null, "bob": false}},
		"base": {"00": {"users": {"ada": {"name": "Ada"}, "bob": {"name": "Bob"}, "eve": {"name": "Eve"}}}},
	}
	registry.record("users", "ada") == null with data.registry as dataset
	registry.record("users", "bob") == false with data.registry as dataset
	registry.record("users", "eve").name == "Eve" with data.registry as dataset
	not registry.record("users", "nobody") with data.registry as dataset
}

test_a_record_in_a_base_is_json_in_a_string if {
	packed := {
		"ada": `{"name":"Ada","active":true}`, "old": {"name": "Old"}, "cut": `{"name":"A`, "empty": "",
		"list": "[1]", "text": `"text"`, "two": "{} {}", "odd": 5, "no": null,
	}
	base := {"00": {"users": packed}}
	found := {id: record |
		some id, _ in packed
		record := registry.record("users", id) with data.registry as {"live": {"since": {"00": 7}}, "base": base}
	}
	found == {
		"ada": {"name": "Ada", "active": true}, "old": {"name": "Old"}, "cut": null, "empty": null,
		"list": [1], "text": "text", "two": null, "odd": 5, "no": null,
	}
}

test_a_shard_is_looked_up_where_live_has_it if {
	live := {"since": _sixty_four, "shards": {"fd": "07", "ab": "21"}}
	registry.shard("users", "ada") == "07" with data.registry.live as live
	registry.shard("tokens", "ab12") == "21" with data.registry.live as live
	registry.shard("tokens", "ac12") == "none" with data.registry.live as live
	registry.shard("users", "ada") == "none" with data.registry.live as object.union(live, {"shards": 5})
}

test_a_shard_fits_from_where_live_starts if {
	live := {"epoch": 2, "since": {"00": 7}}
	registry.shard_is_current("00") with data.registry as {"live": live, "base": {"00": {"epoch": 2, "revision": 7}}}
	not registry.shard_is_current("00") with data.registry as {"live": live, "base": {"00": {"epoch": 2, "revision": 6}}}
	not registry.shard_is_current("00") with data.registry as {"live": live, "base": {"00": {"epoch": 1, "revision": 9}}}
	not registry.shard_is_current("00") with data.registry as {"live": live, "base": {}}
	not registry.shard_is_current("01") with data.registry as {"live": live, "base": {"01": {"epoch": 2, "revision": 9}}}
}

test_all_shards_fit_when_none_is_left_out if {
	base := {id: {"epoch": 2, "revision": 7} | some id, _ in _sixty_four}
	registry.all_shards_are_current with data.registry as {"live": {"epoch": 2, "since": _sixty_four}, "base": base}
		with data.system.bundles as _bundles
	every id in ["00", "07", "1f"] {
		holed := {"epoch": 2, "since": object.remove(_sixty_four, [id])}
		not registry.all_shards_are_current with data.registry as {"live": holed, "base": base}
			with data.system.bundles as _bundles
		lagging := object.union(base, {id: {"revision": 6}})
		not registry.all_shards_are_current
			with data.registry as {"live": {"epoch": 2, "since": _sixty_four}, "base": lagging}
			with data.system.bundles as _bundles
	}
}

test_a_shard_fits_by_numbers_only if {
	every base in [7, null, "7", true, {}, []] {
		every since in [null, "6", true, {}, []] {
			not registry.shard_is_current("00") with data.registry as {
				"live": {"epoch": 2, "since": {"00": since}},
				"base": {"00": {"epoch": 2, "revision": base}},
			}
		}
	}
	not registry.shard_is_current("00") with data.registry as {
		"live": {"epoch": 2, "since": {"00": 7}},
		"base": {"00": {"epoch": 2, "revision": "8"}},
	}
}

test_an_epoch_alone_can_be_behind if {
	registry.caught_up with input as {"min_epoch": 2} with data.registry.live as {"epoch": 2, "revision": 7}
	registry.caught_up with input as {"min_epoch": 1} with data.registry.live as {"epoch": 2, "revision": 7}
	not registry.caught_up with input as {"min_epoch": 3} with data.registry.live as {"epoch": 2, "revision": 7}
}

test_what_is_no_number_has_not_caught_up if {
	every live in [{}, {"epoch": 2}, {"revision": 7}, {"epoch": "2", "revision": 7}, {"epoch": 2, "revision": "7"}] {
		every asked in [{"min_epoch": 1}, {"min_revision": 7}, {"min_epoch": 1, "min_revision": 7}] {
			not registry.caught_up with input as asked with data.registry.live as live
		}
	}
}

test_data_is_fresh_by_numbers_only if {
	_fresh({}, {})
	not _fresh({"epoch": null}, {"epoch": null})
	not _fresh({"revision": "7"}, {})
	not _fresh({}, {"revision": null})
}

_fresh(live, heartbeat) := _fresh_at(6, live, heartbeat)

default _fresh_at(_, _, _) := false

_fresh_at(now, live, heartbeat) if {
	settings := {"lockdown": false, "staleness_limit": 30, "reconcile_limit": 600}
	sound := {"epoch": 2, "revision": 7, "policy": ["p"], "site": ["s"], "synced_at_ns": 5, "reconciled_at_ns": 5}
	registry.fresh with data.registry as {
		"live": object.union({"epoch": 2, "revision": 7, "since": {"00": 7}, "settings": settings}, live),
		"heartbeat": object.union(sound, heartbeat),
	}
		with data.lictor.manifest as {"revision": "p"}
		with data.site.manifest as {"revision": "s"}
		with time.now_ns as now
}

_first(text) := (16 * indexof("0123456789abcdef", substring(digest, 0, 1))) + second if {
	digest := crypto.sha256(text)
	second := indexof("0123456789abcdef", substring(digest, 1, 1))
}

# What OPA keeps of 64 bases.
_bundles[bundle] := {"manifest": {"revision": "2:7", "roots": [root], "rego_version": 0}} if {
	some id, _ in _sixty_four
	bundle := concat("", ["base-", id])
	root := concat("", ["registry/base/", id])
}

test_intact_is_what_the_bundles_of_lictor_serve_leave if {
	registry.intact
	registry.intact with data.system.bundles.live.manifest.revision as "9:9"
}

test_not_intact_with_a_module_that_came_with_data if {
	not registry.intact with data.system.modules as {"live/registry/live/x.rego": {"rego_version": 0}}
	not registry.intact with data.system.modules as {}
}

test_not_intact_with_another_manifest if {
	every bundle in ["live", "heartbeat"] {
		every change in [
			{"roots": []},
			{"roots": [concat("", ["registry/", bundle]), "evil"]},
			{"roots": [concat("", ["registry/", bundle]), "%6cictor"]},
			{"roots": ["registry"]},
			{"roots": [""]},
			{"rego_version": 1},
			{"rego_version": 2},
			{"rego_version": "0"},
			{"file_rego_versions": {"/x.rego": 1}},
			{"wasm": [{"entrypoint": "x", "module": "y"}]},
		] {
			manifest := object.union(data.system.bundles[bundle].manifest, change)
			bundles := object.union(data.system.bundles, {bundle: {"manifest": manifest}})
			not registry.intact with data.system.bundles as bundles
		}
		not registry.intact with data.system.bundles as object.remove(data.system.bundles, [bundle])
	}
	not registry.intact with data.system.bundles.site.manifest.roots as ["site", "evil"]
	not registry.intact with data.system.bundles as object.remove(data.system.bundles, ["site"])
}

test_not_intact_in_an_opa_started_in_another_way if {
	not registry.intact with data.local as {}
	not registry.intact with data.local.protects_roots as false
}

test_a_base_with_another_manifest_has_no_records if {
	base := {"00": {"epoch": 2, "revision": 7, "users": {"ada": {"name": "Ada"}}}}
	live := {"epoch": 2, "since": {"00": 7}}
	registry.record("users", "ada") == {"name": "Ada"} with data.registry as {"live": live, "base": base}
	every change in [
		{"roots": ["registry/base/00", "evil"]},
		{"roots": ["registry/base/01"]},
		{"rego_version": 1},
		{"file_rego_versions": {"/x.rego": 1}},
	] {
		manifest := object.union(data.system.bundles["base-00"].manifest, change)
		bundles := {"base-00": {"manifest": manifest}}
		not registry.record("users", "ada") with data.registry as {"live": live, "base": base}
			with data.system.bundles as bundles
		not registry.shard_is_current("00") with data.registry as {"live": live, "base": base}
			with data.system.bundles as bundles
	}
}
