package site

hidden contains "lib-*"
