package site

allow if input.action.name == "x"
