package site

deny contains "text" if input.action.name == "x"
