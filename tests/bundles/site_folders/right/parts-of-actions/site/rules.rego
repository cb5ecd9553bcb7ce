package site

deny contains {"action": {"tags": ["finance", "write"]}, "code": "c", "message": "m"} if true

deny contains {"action": {"tags": {"a", "b"}, "method": "tools/call"}, "code": "c", "message": "m"} if true

deny contains {"action": {"annotations": {"destructiveHint": true}}, "code": "c", "message": "m"} if true
