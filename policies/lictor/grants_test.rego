package lictor_test

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
