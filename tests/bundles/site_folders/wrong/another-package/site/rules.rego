package lictor

allow := true
