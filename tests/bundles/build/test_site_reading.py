"""A site's folder is listed once and read once, whatever is in it."""

import json
import os

import pytest

from bundles.build.policies import build_policy, build_site, check_site
from bundles.build.site_folder import MAX_FILE_BYTES, MAX_FILES, read_site
from bundles.exceptions import PolicyRefusedError
from bundles.opa.binary import OPA
from bundles.publish.signing import SigningKey

KEY = SigningKey.generate("policy")


def rule(code="c"):
    return (
        f'package site\n\ndeny contains {{"action": action.name, "code": "{code}", "message": "m"}} if {{\n'
        '\tsome action in data.lictor.actions\n\taction.name == "x"\n}\n'
    )


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def codes_in_force(opa, folder, tmp_path):
    """The codes with which the signed bundles refuse `x`, as a real OPA loads them."""
    for bundle in (build_policy(opa, KEY), build_site(opa, folder, KEY)):
        (tmp_path / f"{bundle.name}.tar.gz").write_bytes(bundle.content)
    said = opa.run(
        "eval", "--format=json", "--stdin-input", "--bundle", "policy.tar.gz", "--bundle", "site.tar.gz",
        "{rule.code | some rule in data.site.deny}",
        stdin=b'{"action": {"method": "tools/call", "name": "x"}}', cwd=tmp_path,
    )  # fmt: skip
    return sorted(json.loads(said)["result"][0]["expressions"][0]["value"])


def test_names_of_all_kinds_are_in_force_in_a_real_opa(opa_binary, site, tmp_path):
    names = [
        b"plain.rego", b"A.REGO", b"-dash.rego", b"a:b.rego", b"c:/d.rego", b"\xff\xfe.rego", b"line\nbreak.rego",
        b"pen_test.rego/inner.rego", b"a b/[c]*?.rego", b"%41.rego", "\u202eoger.rego".encode(), b"x" * 200 + b".rego",
        b"bom.rego", b"crlf.rego",
    ]  # fmt: skip
    for number, name in enumerate(names):
        path = site / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = rule(f"c{number:02}").encode()
        if name == b"bom.rego":
            text = b"\xef\xbb\xbf" + text
        if name == b"crlf.rego":
            text = text.replace(b"\n", b"\r\n")
        path.write_bytes(text)
    assert codes_in_force(opa_binary, site, tmp_path) == [f"c{n:02}" for n in range(len(names))]


def test_a_folder_whose_name_looks_like_a_flag_or_a_prefix_is_read(
    opa_binary, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("-dash", "data:x", "--help", "pen_test.rego"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rules.rego").write_text(rule())
        assert codes_in_force(opa_binary, folder.relative_to(tmp_path), tmp_path) == ["c"]


def test_a_mounted_config_map_counts_each_file_once(opa_binary, site, tmp_path):
    (site / "..2026_11_27").mkdir()
    (site / "..2026_11_27" / "rules.rego").write_text(rule())
    (site / "..data").symlink_to("..2026_11_27")
    (site / "rules.rego").symlink_to("..data/rules.rego")
    assert codes_in_force(opa_binary, site, tmp_path) == ["c"]
    found = check_site(opa_binary, site).folder
    assert [file.name for file in found.rules] == ["rules.rego"]
    assert {one.path.rpartition("/")[2] for one in found.left_out} == {"..2026_11_27", "..data"}


def test_a_linked_folder_is_followed_and_counts_once(opa_binary, site, tmp_path):
    (site / "v2").mkdir()
    (site / "v2" / "rules.rego").write_text(rule())
    (site / "current").symlink_to("v2")
    (site / "v2" / "loop").symlink_to("../v2")
    found = read_site(site)
    assert [file.name for file in found.rules] == ["v2/rules.rego"]
    assert [one.reason.partition(" /")[0] for one in found.left_out] == [
        "the same as",
        "the same as",
    ]
    (site / "v2").rename(tmp_path / ".v2")
    (site / ".kept").mkdir()
    (tmp_path / ".v2").rename(site / ".kept" / "v2")
    (site / "current").unlink()
    (site / "current").symlink_to(".kept/v2")
    assert codes_in_force(opa_binary, site, tmp_path) == ["c"]


@pytest.mark.parametrize("target", ["../elsewhere", "/etc/hostname", "../site2"])
def test_a_link_out_of_the_folder_is_refused(site, tmp_path, target):
    (tmp_path / "elsewhere").write_text(rule())
    (tmp_path / "site2").mkdir()
    (site / "rules.rego").symlink_to(target)
    with pytest.raises(PolicyRefusedError, match=r"rules\.rego: a link out of the folder"):
        read_site(site)


def test_what_cannot_be_read_is_refused_by_its_name(site):
    (site / "gone.rego").symlink_to("nothing.rego")
    with pytest.raises(PolicyRefusedError, match=r"gone\.rego: No such file"):
        read_site(site)
    (site / "gone.rego").unlink()
    os.mkfifo(site / "pipe.rego")
    with pytest.raises(PolicyRefusedError, match=r"pipe\.rego: not a regular file"):
        read_site(site)


def test_a_file_without_permission_is_refused_by_its_name(site, monkeypatch):
    (site / "secret.rego").write_text(rule())
    # The tests may run as root, to whom every file is open.
    opened = os.open

    def deny(path, *arguments, **options):
        if str(path).endswith("secret.rego"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr("io.open", lambda path, *a, **k: deny(path))
    with pytest.raises(PolicyRefusedError, match=r"secret\.rego: Permission denied"):
        read_site(site)


def test_large_files_and_many_files_are_refused_in_a_moment(site):
    with (site / "large.rego").open("wb") as file:
        file.truncate(50 << 20)
    with pytest.raises(
        PolicyRefusedError, match=rf"large\.rego: larger than {MAX_FILE_BYTES >> 10} KiB"
    ):
        read_site(site)
    (site / "large.rego").unlink()
    for number in range(10_000):
        (site / f"{number}.rego").touch()
    with pytest.raises(
        PolicyRefusedError, match=f"10000 Rego files; a site has {MAX_FILES} at most"
    ):
        read_site(site)


def test_a_folder_that_changes_while_it_is_checked_is_signed_as_it_was_read(
    site, tmp_path, opa_binary
):
    """The folder is rewritten at each run of OPA: what is signed is what was there first."""
    (site / "rules.rego").write_text(rule("first"))

    class Meddling(OPA):
        def run(self, *arguments, **options):
            (site / "rules.rego").write_text(
                rule("later").replace('"x"', 'http.send({"url": "x"})')
            )
            (site / "added.rego").write_text(rule("added"))
            return super().run(*arguments, **options)

    meddling = Meddling(opa_binary.path, opa_binary.version, opa_binary.origin)
    content = build_site(meddling, site, KEY)
    assert build_site(opa_binary, _fresh(tmp_path), KEY).revision == content.revision


def _fresh(tmp_path):
    folder = tmp_path / "fresh"
    folder.mkdir()
    (folder / "rules.rego").write_text(rule("first"))
    return folder


def test_a_file_that_vanishes_while_the_folder_is_listed_is_refused(site, monkeypatch):
    (site / "rules.rego").write_text(rule())
    listed = os.scandir

    def scandir(path):
        entries = list(listed(path))
        (site / "rules.rego").unlink(missing_ok=True)
        return entries

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", scandir)
        with pytest.raises(PolicyRefusedError, match=r"rules\.rego: No such file"):
            read_site(site)


def test_control_characters_in_names_and_sources_are_escaped(opa_binary, site):
    (site / "a\x1b[31m\n\u202e.rego").write_text('package site\n\nx := "\x1b[2J" +\n')
    with pytest.raises(PolicyRefusedError) as refused:
        build_site(opa_binary, site, KEY)
    assert r"a\x1b[31m\n\u202e.rego" in str(refused.value)
    assert all(c.isprintable() or c == "\n" for c in str(refused.value))


def test_a_build_of_300_files_parses_each_once(opa_binary, site):
    for number in range(300):
        (site / f"r{number:03}.rego").write_text(rule(f"c{number}"))
    found = check_site(opa_binary, site)
    assert len(found.rules) == 300
