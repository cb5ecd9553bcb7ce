"""Every promise has a test that shows it, and `make test` runs one for most of them."""

from .promises import promises, where


def test_every_promise_names_tests_that_exist():
    places = where()
    assert len(promises()) >= 20
    for promise, names in promises():
        assert names, promise
        assert [name for name in names if name not in places] == [], promise
