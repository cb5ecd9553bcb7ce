package site

deny contains if {
