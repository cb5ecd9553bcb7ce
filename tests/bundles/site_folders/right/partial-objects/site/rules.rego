package site

_closed["Docs"] := {"a", "b"}

_closed["Ads"] := {"c"}

deny contains {"action": action.name, "code": "c", "message": "m"} if {
	some action in data.lictor.actions
	action.name in _closed[data.lictor.principal.name]
}
