package site_test

import data.site

_actions := [
	{"method": "tools/call", "name": "put_note", "tags": ["write"]},
	{"method": "tools/call", "name": "search", "tags": ["read"]},
]

test_a_token_may_not_write if {
	denied := site.deny with data.lictor.actions as _actions with data.lictor.principal as {"type": "token"}
	denied == {{"action": "put_note", "code": "teams_write", "message": "Only teams may write."}}
}

test_a_team_may_write if {
	denied := site.deny with data.lictor.actions as _actions with data.lictor.principal as {"type": "team"}
	denied == set()
}

test_drafts_are_hidden_from_all_but_editors if {
	_hidden_from({"type": "team", "name": "Docs"}) == {"lib-draft"}
	_hidden_from({"type": "token", "name": "Editors"}) == {"lib-draft"}
	_hidden_from({"type": "team", "name": "Editors"}) == set()
}

_hidden_from(principal) := hidden if {
	hidden := site.hidden with data.lictor.principal as principal
		with data.lictor.granted_libraries as {"lib-draft", "lib-final"}
		with data.lictor.library as _library
}

_library("lib-draft") := {"name": "Draft", "tags": ["draft", "novels"]}

_library("lib-final") := {"name": "Final", "tags": ["novels"]}
