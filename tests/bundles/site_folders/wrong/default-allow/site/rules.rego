package site

default allow := false
