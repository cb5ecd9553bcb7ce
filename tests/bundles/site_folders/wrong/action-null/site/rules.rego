package site

deny contains {"action": null, "code": "c", "message": "m"} if true
