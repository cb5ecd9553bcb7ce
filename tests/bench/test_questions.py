"""What a peer answers is compared before it is timed."""

import pytest

from bench.generated import GeneratedRegistry, fill_sqlite
from bench.questions import Answer, change_records, differences, questions, write_dataset
from lictor.keys import KeyFolder
from tests.support.deployment import copy_state

ASKED = {"one": None, "two": None}
EXPECTED = {"one": Answer(True, ["b", "a"]), "two": Answer(False, [])}


def test_equal_answers_differ_in_nothing():
    assert differences(ASKED, EXPECTED, [Answer(True, ["a", "b"]), Answer(False, [])]) == ""


def test_libraries_that_a_peer_does_not_determine_are_not_compared():
    assert differences(ASKED, EXPECTED, [Answer(True, None), Answer(False, None)]) == ""


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([Answer(False, []), Answer(False, [])], "one: denied"),
        ([Answer(True, ["a"]), Answer(False, [])], "one: 1 libraries, not 2"),
        ([Answer(True, ["a", "c"]), Answer(True, None)], "one: 2 libraries, not 2; two: allowed"),
    ],
)
def test_other_answers_are_named(answers, said):
    assert differences(ASKED, EXPECTED, answers) == said


def test_answers_must_be_to_all_questions():
    with pytest.raises(ValueError, match="shorter"):
        differences(ASKED, EXPECTED, [Answer(True, None)])


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

    asked = questions(generated, lambda id_, jti: keys.mint_team(id_, jti=jti, active_kids=kids))
    write_dataset(tmp_path / "d.json", generated, database, kids)

    data = json.loads((tmp_path / "d.json").read_text())
    assert data["tokens"][asked["token"].digest]["active"]
    assert not data["tokens"][asked["a revoked token"].digest]["active"]
    assert data["tokens"][asked["an expired token"].digest]["expires_at"]
    assert asked["an unknown token"].digest not in data["tokens"]
    team = asked["team"].claims["sub"].removeprefix("team:")
    assert data["teams"][team]["active_jti"] == asked["team"].claims["jti"]
    assert all(data["workspaces"][one]["libraries"] for one in data["teams"][team]["workspaces"])
