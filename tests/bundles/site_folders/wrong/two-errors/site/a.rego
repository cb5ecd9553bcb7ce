package site

x := {
