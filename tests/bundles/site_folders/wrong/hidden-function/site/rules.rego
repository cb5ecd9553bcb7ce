package site

hidden(x) := x
