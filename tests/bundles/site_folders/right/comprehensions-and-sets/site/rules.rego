package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	count({tag | some tag in action.tags} & {"write", "admin"}) == 2
	not action.name in ({"a"} | {"b"})
}
