package site

y := [
