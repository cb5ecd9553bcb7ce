package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action in [object.union(one, {}) | some one in data.lictor.actions]
}
