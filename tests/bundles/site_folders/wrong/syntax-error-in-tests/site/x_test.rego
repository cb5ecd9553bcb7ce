package site_test

test_x if {
