# METADATA
# title: The site's own rules
# description: |
#   A rule adds to `deny` (an action's name, a code, a message) or to `hidden` (libraries). Both only
#   narrow what the product's rules allow; nothing here can widen it.
package site

# METADATA
# title: Business hours
# description: |
#   Worked example. Tools that carry the tag `write` run on weekdays between 6 and 20 o'clock UTC only.
#   It reads the clock, so decisions are not cached while it is active.
deny contains {"action": action.name, "code": "business_hours", "message": _message} if {
	some action in data.lictor.actions
	"write" in action.tags
	not _open
}

_message := "Writing tools run on weekdays, 6 to 20 o'clock UTC."

_open if {
	now := time.now_ns()
	not time.weekday(now) in {"Saturday", "Sunday"}
	[hour, _, _] := time.clock(now)
	hour >= 6
	hour < 20
}
