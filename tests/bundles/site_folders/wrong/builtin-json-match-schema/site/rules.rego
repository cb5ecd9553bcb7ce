package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	json.match_schema({}, {"$ref": "http://127.0.0.1/x"})[0]
}
