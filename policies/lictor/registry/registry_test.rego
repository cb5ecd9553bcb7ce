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
	# sha256("ada") starts with 5c, sha256("ünïcode/☃") with 62: 0x5c % 64 = 0x1c.
	startswith(crypto.sha256("ada"), sprintf("%02x", [_first("ada")]))
	registry.shard("users", "ada") == sprintf("%02x", [_first("ada") % 64])
		with data.registry.live as {"since": _sixty_four}
}

test_without_live_there_is_no_shard if {
	not registry.shard("users", "ada") with data.registry.live as {}
}

test_live_comes_before_base if {
	world := {
		"live": {"since": {"00": 7}, "users": {"ada": null, "bob": false}},
		"base": {"00": {"users": {"ada": {"name": "Ada"}, "bob": {"name": "Bob"}, "eve": {"name": "Eve"}}}},
	}
	registry.record("users", "ada") == null with data.registry as world
	registry.record("users", "bob") == false with data.registry as world
	registry.record("users", "eve").name == "Eve" with data.registry as world
	not registry.record("users", "nobody") with data.registry as world
}

test_a_shard_fits_from_where_live_starts if {
	live := {"epoch": 2, "since": {"00": 7}}
	registry.fits("00") with data.registry as {"live": live, "base": {"00": {"epoch": 2, "revision": 7}}}
	not registry.fits("00") with data.registry as {"live": live, "base": {"00": {"epoch": 2, "revision": 6}}}
	not registry.fits("00") with data.registry as {"live": live, "base": {"00": {"epoch": 1, "revision": 9}}}
	not registry.fits("00") with data.registry as {"live": live, "base": {}}
	not registry.fits("01") with data.registry as {"live": live, "base": {"01": {"epoch": 2, "revision": 9}}}
}

_first(text) := (16 * indexof("0123456789abcdef", substring(digest, 0, 1))) + second if {
	digest := crypto.sha256(text)
	second := indexof("0123456789abcdef", substring(digest, 1, 1))
}
