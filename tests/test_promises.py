"""Every promise has a test that shows it, and `make test` runs one for most of them."""

from fnmatch import fnmatch

from .promises import TESTS, attacks, promises, where


def test_every_promise_names_tests_that_exist():
    places = where()
    assert len(promises()) >= 20
    for promise, names in promises():
        assert names, promise
        assert [name for name in names if name not in places] == [], promise


def test_every_attack_names_tests_that_exist():
    places = where()
    assert len(attacks()) >= 100
    assert len({attack for _, attack, _ in attacks()}) == len(attacks())
    for _, attack, names in attacks():
        assert names, attack
        assert [name for name in names if name not in places] == [], attack


def test_every_folder_of_tests_is_collected(pytestconfig):
    """pytest passes over folders by their name, without a word."""
    ignored = pytestconfig.getini("norecursedirs")
    folders = {parent for path in TESTS.rglob("test_*.py") for parent in path.parents}
    names = {folder.name for folder in folders if folder.is_relative_to(TESTS)}
    assert {name for name in names if any(fnmatch(name, one) for one in ignored)} == set()
