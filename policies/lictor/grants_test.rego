package lictor_test

import data.lictor

test_a_pattern_is_no_regular_expression if {
	_permitted(["s*"], _named("search")) == {"tools/call"}
	_permitted(["x*"], _named("search")) == set()
}

test_a_tool_named_like_a_method_is_granted_by_its_name if {
	_permitted(["prompts/get"], _named("prompts/get")) == {"tools/call"}
}

test_a_colon_in_a_tools_name_qualifies_nothing_by_itself if {
	_permitted(["ns:search"], _named("ns:search")) == {"tools/call"}
	_permitted(["ns:*"], _named("ns:search")) == {"tools/call"}
}

test_a_call_is_permitted_as_in_a_list if {
	methods := ["tools/call", "prompts/get", "resources/read", "logging/setLevel", "tools/destroy"]
	names := ["search", "prompts/get:ask", "ask", "a.b", "*"]
	grants := ["*", "search", "prompts/get:*", "prompts/get:ask", "?sk", "a*", "resources/read:*", "logging/setLevel:*"]
	permitted := {[method, name, grant] |
		some method in methods
		some name in names
		some grant in grants
		lictor._call_permitted with input.action as {"method": method, "name": name} with lictor.caller.tools as [grant]
	}
	permitted == {[method, name, grant] |
		some method in methods
		some name in names
		some grant in grants
		_permitted([grant], {{"method": method, "name": name}}) == {method}
	}
	permitted & {
		["logging/setLevel", "ask", "*"], ["tools/call", "a.b", "a*"], ["tools/call", "prompts/get:ask", "prompts/get:*"],
		["prompts/get", "ask", "prompts/get:*"], ["tools/destroy", "ask", "*"],
	} == {["logging/setLevel", "ask", "*"], ["tools/call", "a.b", "a*"], ["prompts/get", "ask", "prompts/get:*"]}
}
