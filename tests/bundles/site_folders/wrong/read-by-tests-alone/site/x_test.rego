package site_test

test_x if count(data.site.denied) == 0 with data.lictor.actions as []
