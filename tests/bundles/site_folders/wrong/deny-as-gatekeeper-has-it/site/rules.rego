package site

deny contains {"msg": "no"} if input.action.name == "x"
