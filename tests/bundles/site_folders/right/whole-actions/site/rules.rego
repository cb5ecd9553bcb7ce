package site

deny contains {"action": action, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	"write" in action.tags
}
