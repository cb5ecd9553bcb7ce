package site

_table := {
	"pay": {"code": "no_pay", "message": "No payments.", "teams": {"Docs"}},
	"mail": {"code": "no_mail", "message": "No mail.", "teams": {"Docs", "Ads"}},
}

deny contains {"action": name, "code": rule.code, "message": rule.message} if {
	some name, rule in _table
	data.lictor.principal.type == "team"
	data.lictor.principal.name in rule.teams
}
