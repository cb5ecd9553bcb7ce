# METADATA
# title: Registry records
# description: |
#   The only access to records. Recent changes are in `live`, the rest in the base shard that the
#   record's id falls into; other rules use neither directly. This package also decides whether the data
#   is current enough for a decision.
package lictor.registry

import data.registry.base
import data.registry.heartbeat
import data.registry.live

# METADATA
# description: |
#   True while OPA holds only what its bundles may contain: data bundles contain only data, below their own
#   root, and `site` owns the site's rules. Nothing else may be evaluated while it is false.
intact if {
	# Only the bundle that `lictor opa` starts OPA with has this. It prevents others from writing OPA's bundle records.
	data.local.protects_roots == true

	# OPA records here the modules that are not of the default Rego version. `policy` and `site` declare that
	# version and data bundles another: a module that arrived with data is recorded. The empty record that it leaves
	# behind counts too, until OPA is started again, since it may have taken the place of a site's module.
	not data.system.modules

	# A manifest with another member has Rego versions for single files, or Wasm.
	{"revision": _, "roots": ["registry/live"], "rego_version": 0} = data.system.bundles.live.manifest
	{"revision": _, "roots": ["registry/heartbeat"], "rego_version": 0} = data.system.bundles.heartbeat.manifest
	data.system.bundles.site.manifest.roots == ["site"]
}

# METADATA
# description: |
#   The record of a kind by its id: `null` if it was deleted or refused by the publisher, undefined
#   if it never existed. An `else` chain, since two clauses would conflict on a false record.
record(kind, id) := found if {
	found := live[kind][id]
} else := found if {
	in_shard := shard(kind, id)
	_is_data_only(in_shard)
	found := _unpacked(base[in_shard][kind][id])
}

# A record in a base is its JSON in a string, which takes OPA a third of the memory. Bases that an older `lictor serve`
# wrote have objects. Text that is not JSON is a record that the publisher refused: an error would fail the whole query.
_unpacked(record) := json.unmarshal(record) if {
	json.is_valid(record)
} else := null if {
	is_string(record)
} else := record

# A base whose bundle may contain more than data has no records.
_is_data_only(id) if {
	manifest := data.system.bundles[concat("", ["base-", id])].manifest
	count(manifest) == 3
	manifest.rego_version == 0
	manifest.roots == [concat("", ["registry/base/", id])]
}

# METADATA
# description: |
#   The shard that a record falls into: the first byte of a token's digest, or of the SHA-256 of any
#   other id, modulo the number of shards, as two hexadecimal digits. A shard that is never current, if
#   `live` does not continue from any.
# scope: document
default shard(_, _) := "none"

shard("tokens", id) := _shard(id)

shard(kind, id) := _shard(crypto.sha256(id)) if kind != "tokens"

# `live.shards` has the shard of each byte, since calculating it takes as long as all else about a record. A `live` that
# an older `lictor serve` wrote does not have it.
_shard(digest) := live.shards[substring(digest, 0, 2)]

_shard(digest) := sprintf("%02x", [((16 * first) + second) % _shards]) if {
	not live.shards
	_shards > 0
	first := indexof("0123456789abcdef", substring(digest, 0, 1))
	second := indexof("0123456789abcdef", substring(digest, 1, 1))
}

# A rule of its own, as OPA would rebuild the whole map for each count.
_shards := count(live.since)

# METADATA
# description: True if `live` continues from where this base shard ends, so that no change is missing.
shard_is_current(id) if {
	_is_data_only(id)
	base[id].epoch == live.epoch
	_reaches(base[id].revision, live.since[id])
}

# `null` is less than any number and text is more, so both sides are checked.
_reaches(revision, since) if {
	is_number(revision)
	is_number(since)
	revision >= since
}

# METADATA
# description: True if every shard is current. Evaluated only for rules that may read any record.
all_shards_are_current if {
	# Check all of them, or a record could fall into an unchecked one.
	max(object.keys(live.since)) == sprintf("%02x", [count(live.since) - 1])
	every id, _ in live.since {
		shard_is_current(id)
	}
}

# METADATA
# description: |
#   True if the heartbeat is recent, `live` has reached the revision in it, and the active policies are
#   the ones that it names. A replayed old bundle of any kind is detected here.
fresh if {
	settings := live.settings
	is_number(settings.staleness_limit)

	# Members of a variable take half of what references to data take.
	# regal ignore:pointless-reassignment
	beat := heartbeat
	now := time.now_ns()

	# Moments are checked from both sides, as `null` is less than any number, and text is more. The clocks of two hosts
	# may differ by five seconds.
	beat.synced_at_ns >= now - (settings.staleness_limit * 1000000000)
	latest := now + 5000000000
	beat.synced_at_ns <= latest
	is_number(settings.reconcile_limit)
	beat.reconciled_at_ns >= now - (settings.reconcile_limit * 1000000000)
	beat.reconciled_at_ns <= latest
	is_number(live.epoch)
	live.epoch == beat.epoch
	is_number(live.revision)
	is_number(beat.revision)
	live.revision >= beat.revision
	data.lictor.manifest.revision in beat.policy
	data.site.manifest.revision in beat.site
	is_boolean(settings.lockdown)
}

# METADATA
# description: True if `live` has at least the version that the caller has already seen, by epoch first.
# scope: document
caught_up if {
	not input.min_epoch
	not input.min_revision
}

caught_up if {
	_numbered
	live.epoch > input.min_epoch
}

caught_up if {
	_numbered
	live.epoch >= object.get(input, "min_epoch", live.epoch)
	live.revision >= object.get(input, "min_revision", live.revision)
}

_numbered if {
	is_number(live.epoch)
	is_number(live.revision)
}

# METADATA
# description: The age of the decision's data in milliseconds; `null` without a heartbeat.
# scope: document
default age_ms := null

age_ms := round((time.now_ns() - heartbeat.synced_at_ns) / 1000000) if is_number(heartbeat.synced_at_ns)

# METADATA
# description: The time at which the data, unchanged, becomes too old for a decision, in seconds since 1970.
deadline := min([
	heartbeat.synced_at_ns + (live.settings.staleness_limit * 1000000000),
	heartbeat.reconciled_at_ns + (live.settings.reconcile_limit * 1000000000),
]) / 1000000000

# METADATA
# description: Whether a time, in seconds since 1970, is in the future.
in_future(moment) if moment * 1000000000 > time.now_ns()
