package site

hidden contains 7
