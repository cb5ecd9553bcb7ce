package site

test_c if deny == set() with data.lictor.actions as []
