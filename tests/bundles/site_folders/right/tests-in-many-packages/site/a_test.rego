package site_test

test_a if data.site.deny == set() with data.lictor.actions as []
