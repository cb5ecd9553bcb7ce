package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	"write" in object.get(action, "tags", [])
	object.get(action, ["annotations", "readOnlyHint"], false) == false
}
