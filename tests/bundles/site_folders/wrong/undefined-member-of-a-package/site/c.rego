package site.constants

open := {"a"}
