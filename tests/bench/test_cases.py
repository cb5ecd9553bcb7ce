"""What a peer outcomes is compared before it is timed."""

import pytest

from bench.cases import Outcome, cases_of, change_records, differences, write_dataset
from bench.generated import GeneratedRegistry, fill_sqlite
from lictor.keys import KeyFolder
from tests.support.deployment import copy_state

ASKED = {"one": None, "two": None}
EXPECTED = {"one": Outcome(True, ["b", "a"]), "two": Outcome(False, [])}


def test_equal_answers_differ_in_nothing():
    assert differences(ASKED, EXPECTED, [Outcome(True, ["a", "b"]), Outcome(False, [])]) == ""


def test_libraries_that_a_peer_does_not_determine_are_not_compared():
    assert differences(ASKED, EXPECTED, [Outcome(True, None), Outcome(False, None)]) == ""


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ([Outcome(False, []), Outcome(False, [])], "one: denied"),
        ([Outcome(True, ["a"]), Outcome(False, [])], "one: 1 libraries, not 2"),
        ([Outcome(True, ["a", "c"]), Outcome(True, None)], "one: 2 libraries, not 2; two: allowed"),
    ],
)
def test_other_answers_are_named(outcomes, said):
    assert differences(ASKED, EXPECTED, outcomes) == said


def test_answers_must_be_to_all_questions():
    with pytest.raises(ValueError, match="shorter"):
        differences(ASKED, EXPECTED, [Outcome(True, None)])


def test_dataset_has_the_records_that_questions_are_about(state_template, tmp_path):
    import json

    settings = copy_state(state_template, tmp_path / "s")
    database = settings.registry.removeprefix("sqlite:///")
    generated = GeneratedRegistry(500)
    fill_sqlite(database, generated)
    change_records(database, generated)
    keys = KeyFolder(settings.keys)
    kids = [
        key["kid"]
        for key in json.loads((settings.keys / "mnemosyne.public.jwks").read_text())["keys"]
    ]

    cases = cases_of(generated, lambda id_, jti: keys.mint_team(id_, jti=jti, active_kids=kids))
    write_dataset(tmp_path / "d.json", generated, database, kids)

    data = json.loads((tmp_path / "d.json").read_text())
    assert data["tokens"][cases["token"].digest]["active"]
    assert not data["tokens"][cases["a revoked token"].digest]["active"]
    assert data["tokens"][cases["an expired token"].digest]["expires_at"]
    assert cases["an unknown token"].digest not in data["tokens"]
    team = cases["team"].claims["sub"].removeprefix("team:")
    assert data["teams"][team]["active_jti"] == cases["team"].claims["jti"]
    assert all(data["workspaces"][one]["libraries"] for one in data["teams"][team]["workspaces"])
