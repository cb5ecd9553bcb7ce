package site

deny[x] { x := 1 }
