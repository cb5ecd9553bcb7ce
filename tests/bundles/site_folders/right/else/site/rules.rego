package site

_level(a) := 3 if {
	"admin" in a.tags
} else := 2 if {
	"write" in a.tags
} else := 1

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	_level(action) > 2
}
