package site.b_test

test_b if data.site.deny == set() with data.lictor.actions as []
