package site.hidden

x contains "lib-a"
