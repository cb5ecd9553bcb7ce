package site

deny if input.action.name == "x"
