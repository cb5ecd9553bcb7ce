"""The registry's verbs, as an operator types them."""

import asyncio
import io
import json
import re
import sqlite3
import stat
from contextlib import closing

import jwt
import pytest
from support.faults import answer, faulty

from lictor.cli import _with_seconds, run
from lictor.commands.opa import _served
from lictor.keys import KeyFolder


class Shell:
    """Runs `lictor …` in this process, on one state directory."""

    def __init__(self, settings, capsys, monkeypatch):
        self.settings = settings
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments, stdin=""):
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = run([*arguments, f"--state={self.settings.state}"])
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments, **kwargs):
        code = self(*arguments, "--format=json", **kwargs)
        assert code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def shell(settings, capsys, monkeypatch):
    return Shell(settings, capsys, monkeypatch)


def test_init_creates_a_private_directory(short_path, capsys):
    state = short_path / "new"

    assert run(["init", f"--state={state}"]) == 0

    secrets = [*state.glob("**/*.pem"), *state.glob("**/*.token"), *state.glob("keys/*.jwks")]
    private = [path for path in secrets if ".pub" not in path.name]
    assert len(private) >= 5
    for path in [*private, state / "registry.db"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_init_twice_overwrites_nothing(shell):
    before = {p: p.read_bytes() for p in shell.settings.state.rglob("*") if p.is_file()}

    assert shell("init") == 1

    assert "initialised already" in shell.err
    assert {p: p.read_bytes() for p in shell.settings.state.rglob("*") if p.is_file()} == before


def test_init_that_finds_no_registry_can_be_given_again(short_path, capsys, monkeypatch):
    state, secret = short_path / "new", short_path / "password"
    secret.write_text("planted-password\n")

    with monkeypatch.context() as patch:
        patch.setenv("LICTOR_REGISTRY_PASSWORD_FILE", str(secret))
        assert run(["init", f"--state={state}", "--registry=bolt://neo4j@127.0.0.1:1/neo4j"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("lictor: ")
    assert "planted" not in err
    assert run(["init", f"--state={state}"]) == 0
    assert run(["user", "add", "ada", f"--state={state}"]) == 0


def test_command_without_a_state_directory_names_init(short_path, capsys):
    assert run(["user", "list", f"--state={short_path / 'none'}"]) == 1
    assert "lictor init" in capsys.readouterr().err


def test_everything_is_added_and_listed(shell):
    shell.json("user", "add", "ada", "--name", "Ada")
    shell.json("workspace", "add", "w")
    shell.json("library", "add", "lib-a", "--workspace=w", "--tag=x", "--tag=y")
    team = shell.json("team", "create", "Docs", "--owner=ada", "--workspace=w", "--tool=get_*")
    token = shell.json("token", "create", "--user=ada", "--library=lib-a", "--tool=*")

    assert shell.json("user", "list") == [{"id": "ada", "name": "Ada", "active": True}]
    assert shell.json("library", "list")[0]["tags"] == ["x", "y"]
    listed = shell.json("team", "list")
    assert listed == [{k: v for k, v in team.items() if k not in {"jwt", "epoch", "revision"}}]
    listed = shell.json("token", "list")
    assert listed[0]["id"] == token["id"]
    assert (listed[0]["uses"], listed[0]["last_used_at"]) == (0, None)
    assert token["id"].startswith("lct_…")


def test_secret_is_printed_once_and_never_again(shell):
    shell.json("user", "add", "ada")
    bearer = shell.json("token", "create", "--user=ada", "--tool=*")["token"]
    jwt = shell.json("team", "create", "Docs", "--owner=ada")["jwt"]

    for group in ("token", "team", "key", "user"):
        assert shell(group, "list") == 0
        assert bearer[4:] not in shell.out
        assert jwt.split(".")[2] not in shell.out
    assert shell("registry", "export") == 0
    assert bearer[4:] not in shell.out
    assert bearer.encode() not in (shell.settings.state / "registry.db").read_bytes()


def test_token_needs_a_tool_and_a_user_that_exists(shell):
    assert shell("token", "create", "--user=ada") == 2
    assert shell("token", "create", "--user=ada", "--tool=*") == 1
    assert "ada" in shell.err


@pytest.mark.parametrize("text", ["", "1", "h", "1.5h", "-1h", "1w", "1h ", "9" * 30 + "s"])
def test_invalid_duration_is_a_usage_error(shell, text):
    assert shell("token", "create", "--user=ada", "--tool=*", f"--expires-in={text}") == 2


def test_team_rotation_issues_another_jwt(shell):
    shell.json("user", "add", "ada")
    team = shell.json("team", "create", "Docs", "--owner=ada")
    assert shell("team", "rotate", team["id"], "--format=json") == 1
    rotated = json.loads(shell.out)

    verifier = KeyFolder(shell.settings.keys).verifier()
    before, after = (verifier.verify(one["jwt"]) for one in (team, rotated))
    assert before.claims["sub"] == after.claims["sub"] == f"team:{team['id']}"
    assert before.claims["jti"] != after.claims["jti"]
    assert rotated["revision"] > team["revision"]


def test_team_is_not_created_without_a_signing_key(shell):
    shell.json("user", "add", "ada")
    assert shell("key", "retire", shell.json("key", "list")[0]["kid"]) == 1

    assert shell("team", "create", "Docs", "--owner=ada") == 1

    assert "lictor key new" in shell.err
    assert shell.json("team", "list") == []


def test_foreign_secret_is_imported_from_standard_input(shell):
    assert shell("key", "import", "old", "--issuer=daedalus", "--hex", stdin="ab" * 32 + "\n") == 0
    assert {"kid": "old", "alg": "HS256", "active": True} in shell.json("key", "list")
    assert KeyFolder(shell.settings.keys).verifier()
    for path in shell.settings.keys.glob("daedalus*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_imported_secret_signs_nothing_new(shell):
    shell.json("user", "add", "ada")
    assert shell("key", "import", "old", "--issuer=mnemosyne", "--hex", stdin="ab" * 32) == 0

    minted = shell.json("team", "create", "Docs", "--owner=ada")["jwt"]

    assert jwt.get_unverified_header(minted)["alg"] == "EdDSA"


def test_revocation_without_a_publisher_fails_each_time(shell):
    shell.json("user", "add", "ada")
    token = shell.json("token", "create", "--user=ada", "--tool=*")

    for _ in range(2):
        assert shell("token", "revoke", token["id"]) == 1
        assert "does not run" in shell.err

    assert shell.json("token", "list")[0]["active"] is False


@pytest.mark.parametrize("secret", ["", "zz", "00ff", "ab" * 31])
def test_weak_secret_is_refused_unquoted(shell, secret):
    assert shell("key", "import", "old", "--issuer=daedalus", "--hex", stdin=secret) == 2
    assert not secret or secret not in shell.err
    assert [one["kid"] for one in shell.json("key", "list") if one["kid"] == "old"] == []


def test_registry_export_round_trips_as_yaml(shell, short_path):
    shell.json("user", "add", "ada")
    shell.json("token", "create", "--user=ada", "--tool=*")
    file = short_path / "registry.yaml"

    assert shell("registry", "export", str(file)) == 0
    assert shell("registry", "import", str(file)) == 0
    assert shell("registry", "export") == 0
    assert shell.out == file.read_text()
    assert shell.json("registry", "check")["intact"] is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nusers:\n- id: ada\n  name: A\n  active: true\n  admin: true\n", "admin"),
        (
            """
version: 1
teams:
- {id: 7f000000-0000-4000-8000-000000000001, name: T, owner: ghost, active_jti: j}
""",
            "ghost",
        ),
        ("version: 2\n", "version"),
        ("users: [", "line"),
    ],
)
def test_invalid_import_changes_nothing_and_names_the_place(shell, short_path, text, said):
    file = short_path / "registry.yaml"
    file.write_text(text)
    before = shell.json("registry", "check")

    assert shell("registry", "import", str(file)) == 1

    assert said in shell.err
    assert shell.json("registry", "check") == before


def test_registry_of_another_version_is_refused_unchanged(shell):
    import sqlite3
    from contextlib import closing

    file = shell.settings.state / "registry.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("pragma user_version = 99")
        db.execute("pragma wal_checkpoint(truncate)")
    before = file.read_bytes()

    assert shell("user", "list") == 1

    assert "99" in shell.err
    assert file.read_bytes() == before


def test_broken_keyring_is_named_without_its_content(shell):
    secret = "s3cr3t-material"
    (shell.settings.keys / "mnemosyne.public.jwks").write_text(f'{{"keys": "{secret}"')

    assert shell("decide", "--tool=search", stdin="anything") == 1

    assert "mnemosyne.public.jwks" in shell.err
    assert secret not in shell.err


def test_build_refuses_a_site_file_in_lictors_package(shell):
    (shell.settings.site / "evil.rego").write_text("package lictor\n\nallow := true\n")

    assert shell("policies", "build", "--sign") == 1
    assert "evil.rego" in shell.err
    assert "package lictor" in shell.err


def test_unknown_verb_or_flag_is_a_usage_error(shell):
    assert shell("nonsense") == 2
    assert shell("user", "add") == 2
    assert shell("user", "list", "--bogus") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bundles_url = ", "lictor.toml"),
        ('colour = "red"', "colour"),
        ('shards = "many"', "shards"),
    ],
)
def test_invalid_settings_file_is_one_line(shell, text, said):
    (shell.settings.state / "lictor.toml").write_text(text)

    assert shell("user", "list") == 2

    assert said in shell.err
    assert len(shell.err.splitlines()) == 1


def test_every_setting_has_a_flag(shell, short_path):
    other = short_path / "other.db"

    assert shell("user", "add", "ada", f"--registry=sqlite:///{other}") == 0

    assert shell.json("user", "list") == []
    assert [one["id"] for one in shell.json("user", "list", f"--registry=sqlite:///{other}")]


def test_help_describes_each_command(shell):
    assert shell("--help") == 0
    for verb in ("decide", "team", "policies", "serve"):
        assert re.search(rf"{verb} +[A-Z]", shell.out), verb


def test_check_without_signing_needs_no_key(shell):
    (shell.settings.bundle_keys / "policy.pem").unlink()

    assert shell("policies", "build") == 0
    assert shell("policies", "build", "--sign") == 1


def test_decide_without_a_state_directory_names_init(short_path, capsys):
    assert run(["decide", "--tool=x", f"--state={short_path / 'none'}"]) == 1
    assert "lictor init" in capsys.readouterr().err


def test_flag_overrides_variable_and_variable_overrides_file(settings, monkeypatch):
    from lictor.settings import Settings

    (settings.state / "lictor.toml").write_text('bundles_url = "http://127.0.0.1:1"\n')
    assert Settings(state=settings.state).bundles_url == "http://127.0.0.1:1"
    monkeypatch.setenv("LICTOR_BUNDLES_URL", "http://127.0.0.1:2")
    assert Settings(state=settings.state).bundles_url == "http://127.0.0.1:2"
    flag = Settings(state=settings.state, bundles_url="http://127.0.0.1:3")
    assert flag.bundles_url == "http://127.0.0.1:3"


# WaitOptions, receipts, instances.


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [(["--wait"], "60"), (["--wait", "7"], None), (["--wait", "0.5"], None), (["--wait", "--format=json"], "60"), (["--wait=7"], None)],
)  # fmt: skip
def test_wait_needs_no_seconds(typed, seconds):
    given = _with_seconds(["team", "rotate", "x", *typed])
    assert ("--wait=60" in given) is (seconds == "60")
    assert len(given) == 3 + len(typed)


def test_revocation_with_wait_but_no_publisher_fails(shell):
    shell.json("user", "add", "ada")
    assert shell("user", "disable", "ada", "--wait", "1") == 1
    assert "not published" in shell.err
    assert "active: no" in shell.out


def test_instance_bearer_command_prints_its_own_bearer(shell):
    one, other = (shell.json("instance", "token", id_)["bearer"] for id_ in ("opa-1", "opa-2"))
    assert one != other
    assert shell.json("instance", "token", "opa-1")["bearer"] == one
    assert shell("instance", "token", "no such name") == 2


@pytest.mark.parametrize("content", ["", "garbage", "{}", "[]", '{"receipt": 7}', '{"receipt": "a.b.c"}', "\ufeff"])  # fmt: skip
def test_invalid_receipt_is_refused(shell, tmp_path, content):
    file = tmp_path / "r.receipt"
    file.write_text(content)
    assert shell("receipt", "verify", str(file)) == 1
    assert shell.out == ""
    assert "Traceback" not in shell.err


def test_status_and_accept_want_a_lictor_serve(shell):
    for command in (["status"], ["registry", "accept"]):
        assert shell(*command) == 1
        assert "does not answer" in shell.err


def test_check_reports_problems_and_exits_with_1(shell):
    assert shell.json("registry", "check")["findings"] == []
    with closing(sqlite3.connect(shell.settings.state / "registry.db")) as db:
        db.execute("INSERT INTO teams VALUES ('t', 'T', 'nobody', 1, 'j', '[]')")
        db.commit()
    assert shell("registry", "check", "--format=json") == 1
    assert json.loads(shell.out)["findings"] != []


@pytest.mark.anyio
async def test_opa_is_not_set_up_before_the_rules_are_served_too(tmp_path):
    first, whole = (
        ["base-00", "heartbeat", "live"],
        ["base-00", "heartbeat", "live", "policy", "site"],
    )

    async def respond(server, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        names = first if server.connections == 1 else whole
        writer.write(answer({"bundles": names}, headers=["Connection: close"]))
        await writer.drain()

    async with faulty("tcp", respond, tmp_path) as server:
        assert await asyncio.to_thread(_served, server.url, "b", seconds=20) == whole
        assert server.connections == 2
