package site

hidden contains "lib-a"
