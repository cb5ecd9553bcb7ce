"""Folders of site rules as people write them: each wrong one is refused by its place, no right one is."""

from pathlib import Path

import pytest

from bundles.build.policies import build_site, check_site
from bundles.build.site_rules import Reads
from bundles.exceptions import PolicyRefusedError
from bundles.publish.signing import SigningKey

FOLDERS = Path(__file__).parents[1] / "site_folders"
WRONG = sorted(path.name for path in (FOLDERS / "wrong").iterdir())
RIGHT = sorted(path.name for path in (FOLDERS / "right").iterdir())


def expected(folder):
    return [line for line in (folder / "expected.txt").read_text().splitlines() if line]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_folder_is_refused_by_its_place(opa_binary, name):
    folder = FOLDERS / "wrong" / name
    with pytest.raises(PolicyRefusedError) as refused:
        build_site(opa_binary, folder / "site", SigningKey.generate("policy"))
    for part in expected(folder):
        assert part in str(refused.value)


@pytest.mark.parametrize("name", RIGHT)
def test_right_folder_is_accepted(opa_binary, name):
    folder = FOLDERS / "right" / name
    found = check_site(opa_binary, folder / "site")
    wanted = dict(line.split(": ") for line in expected(folder))
    reads = {one: True for one in wanted.get("reads", "").split(", ") if one}
    assert found.reads == Reads(**reads)
    assert len(found.folder.left_out) >= int(wanted.get("left_out", 0))


def test_there_are_enough_folders():
    assert len(WRONG) >= 60
    assert len(RIGHT) >= 30
