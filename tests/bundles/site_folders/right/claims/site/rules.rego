package site

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	input.credential.claims.groups[_] == "x"
	input.credential.claims["https://example.com/roles"]
	input.credential.kind == "jwt"
}
