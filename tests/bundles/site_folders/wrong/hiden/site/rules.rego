package site

hiden contains "lib-a"
