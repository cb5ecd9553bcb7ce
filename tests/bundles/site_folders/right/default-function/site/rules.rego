package site

default _small(_) := false

_small(a) if count(a.tags) < 3

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	not _small(action)
}
