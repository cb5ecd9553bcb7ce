package site

deny contains {"action": "data://books/{id}", "code": "c", "message": "m"} if true

deny contains {"action": {"name": "files:///{path*}", "method": "resources/read"}, "code": "c", "message": "m"} if true
