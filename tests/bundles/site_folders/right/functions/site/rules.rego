package site

_writes(a) if "write" in a.tags

_writes(a) if "admin" in a.tags

_small(a, limit) if count(a.tags) < limit

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	_writes(action)
	not _small(action, 5)
}
