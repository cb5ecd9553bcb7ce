package lictor

import data.lictor.caller

# The contract's order.
_order := [
	"behind", "stale_data", "lockdown",
	"missing_token",
	"token_deactivated", "token_expired", "user_disabled",
	"key_unknown", "key_retired", "issuer_invalid", "per_turn_retired",
	"team_unknown", "team_inactive", "owner_disabled", "invalid_token",
	"tool_not_allowed", "site_rule",
	"unavailable", "ok",
]

_first(codes) := _order[min({position | some code in codes; position := _position[code]})]

_position[code] := position if some position, code in _order

# As `pdp_client.reasons` does: at most 64 characters of a caller's text.
_quoted(text) := sprintf("'%s'", [text]) if {
	count(text) <= 64
} else := sprintf("'%s…'", [substring(text, 0, 63)])

_message["behind"] := "Policy data has not caught up yet."

_message["stale_data"] := "Policy data is too old to decide on."

_message["lockdown"] := "An operator has stopped all calls."

_message["unavailable"] := "The policy decision point is unavailable."

_message["missing_token"] := "Authentication required. Provide a Bearer token."

_message["issuer_invalid"] := "Invalid token issuer."

_message["per_turn_retired"] := "Per-turn JWTs are no longer accepted; mint a team JWT."

_message["token_deactivated"] := "Token has been deactivated."

_message["token_expired"] := "Token has expired."

_message["user_disabled"] := "User account is disabled."

_message["team_unknown"] := "Team JWT references a team that no longer exists."

_message["team_inactive"] := "Team JWT references an inactive team."

_message["invalid_token"] := "Invalid MCP token."

_message["key_unknown"] := sprintf("Unknown signing key kid=%s.", [_quoted(input.credential.kid)])

_message["key_retired"] := sprintf("Signing key %s has been retired.", [_quoted(input.credential.kid)])

_message["owner_disabled"] := sprintf("Team owner %s is disabled.", [_quoted(caller.user_name)])

_message["tool_not_allowed"] := sprintf("Token does not have permission to call %s.", [_quoted(_shown_name)])

_shown_name := input.action.name if input.action.method == "tools/call"

# The pattern that would grant the action.
_shown_name := concat(":", [input.action.method, input.action.name]) if not input.action.method == "tools/call"

_message["site_rule"] := _messages_of_site_rules if _messages_of_site_rules != ""

# The default if no rule provides a message: a malformed rule denies too.
_message["site_rule"] := "A rule of this site refused the call." if _messages_of_site_rules == ""

_messages_of_site_rules := concat(" ", sort({rule.message | some rule in _site_rules}))
