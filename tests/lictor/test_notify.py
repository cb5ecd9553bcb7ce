"""A command tells Redis what it has written before it returns, and says so when it could not."""

import asyncio
import json
import shutil
from contextlib import aclosing

import pytest
from support.deployment import copy_state
from support.waiting import until

from lictor import cluster
from lictor.announcer import Announcer
from lictor.cli import run as run_command
from lictor.exceptions import InvalidArgumentError
from lictor.notify import RevisionNotifier
from lictor.server import serving
from lictor.settings import Settings
from lictor.state_dir import registry_opener, require_newest_key
from pdp_client.shared import Shared
from registry.operations import Operator

pytestmark = pytest.mark.anyio


@pytest.fixture
def run(lictor_processes, redis_process, state_template, short_path):
    shutil.copytree(state_template, short_path / "state")
    run = lictor_processes(redis_url=redis_process.url)
    run.start("serve")
    run.until((run.state / "admin.sock").exists, "lictor serve listens")
    return run


@pytest.fixture
async def shared(run, redis_process):
    made = Shared(redis_process.url, key_file=run.state / "newest.key", timeout=5)
    yield made
    await made.aclose()


async def test_written_revision_is_in_redis_when_the_command_returns(run, shared):
    run.json("user", "add", "ada")
    for number in range(2):
        done = run.json("workspace", "add", f"w-{number}")
        reported = await shared.newest.read()
        assert reported.version == (done["epoch"], done["revision"])


async def test_command_that_cannot_notify_reports_it_after_writing(run, redis_process):
    redis_process.must_be_ours()
    run.json("user", "add", "ada")
    redis_process.kill()
    done = run.run("user", "disable", "ada")
    assert done.returncode == 1
    assert "Redis could not be notified" in done.stderr
    assert [user["active"] for user in run.json("user", "list")] == [False]
    waited = run.run("user", "disable", "ada", "--wait=1")
    assert waited.returncode == 1
    redis_process.start()
    run.until(
        lambda: run.run("user", "disable", "ada").returncode == 0, "the new Redis has the revision"
    )


def test_any_error_after_the_commit_leaves_the_result_shown(settings, capsys, monkeypatch):
    shell_settings = [f"--state={settings.state}", "--format=json"]
    assert run_command(["user", "add", "ada", *shell_settings]) == 0

    async def fail(*_, **__):
        raise KeyError("a foreign value")

    monkeypatch.setenv("LICTOR_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setattr(Announcer, "announce", fail)
    capsys.readouterr()
    run_command(["team", "create", "Docs", "--owner=ada", *shell_settings])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["jwt"].count(".") == 2
    assert "Traceback" not in printed.err


def test_one_time_secret_is_printed_although_redis_is_away(settings, capsys):
    shell_settings = [f"--state={settings.state}", "--format=json"]
    assert run_command(["user", "add", "ada", *shell_settings]) == 0
    settings.newest_key.write_text("garbage")
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LICTOR_REDIS_URL", "redis://127.0.0.1:1")
        run_command(["team", "create", "Docs", "--owner=ada", *shell_settings])
    assert json.loads(capsys.readouterr().out)["jwt"].count(".") == 2


async def test_command_waits_for_caches_that_hear_nothing(run, shared, monkeypatch):
    run.json("user", "add", "ada")
    newest = shared.newest
    newest.start_watching()
    await until(newest.cached, "it is known")
    # From now on Redis tells this process nothing, and it does not know that yet.
    monkeypatch.setattr(newest, "_hear", lambda _: None)
    monkeypatch.setattr(newest, "read", asyncio.Event().wait)
    settings = Settings(state=run.state, redis_url=run.env["LICTOR_REDIS_URL"])
    notifier = RevisionNotifier(settings)
    async with aclosing(await registry_opener(settings)()) as registry:
        await Operator(registry, actor="tests", committed=notifier.notify).disable_user("ada")
        assert notifier.error == ""
        await notifier.settle()
    assert newest.cached() is None


async def test_server_confirms_revisions_of_others(settings, redis_process):
    settings = settings.model_copy(update={"redis_url": redis_process.url})
    shared = Shared(redis_process.url, key_file=require_newest_key(settings), timeout=5)
    async with serving(settings) as running:

        async def reported():
            with redis_process.client() as client:
                if not client.exists("{lictor}:newest"):
                    return None
            return (await shared.newest.read()).version

        version = running.role.version
        await until(
            lambda: _equals(reported, (version.epoch, version.revision)),
            "it is announced at the start",
        )
        # Only the server that finds this write announces it.
        done = await Operator(running.registry, actor="tests").add_user("bea")
        await until(
            lambda: _equals(reported, (done.version.epoch, done.version.revision)),
            "it is announced",
        )
        newest = await shared.newest.read()
        assert newest.policy
        assert newest.site
    await shared.aclose()


async def _equals(read, expected):
    return await read() == expected


async def test_two_unconnected_servers_report_each_other(
    settings, state_template, short_path, redis_process
):
    ours = settings.model_copy(update={"redis_url": redis_process.url})
    theirs = copy_state(state_template, short_path / "t", redis_url=redis_process.url)
    async with serving(ours) as one, serving(theirs) as other:

        def reported():
            return [*one.role.notices(), *other.role.notices()]

        found = await until(reported, "one of them reports it")
    assert "set LICTOR_ARTEFACTS_URL" in found[0]


async def test_revision_key_is_created_once_and_private(settings):
    first = require_newest_key(settings).read_text()
    assert require_newest_key(settings).read_text() == first
    assert settings.newest_key.stat().st_mode & 0o777 == 0o600
    settings.newest_key.unlink()
    assert require_newest_key(settings).read_text() == first, "several servers have the same"


async def test_invalid_revision_key_is_refused(settings):
    settings.newest_key.write_text("garbage")
    with pytest.raises(InvalidArgumentError, match=r"newest\.key: no readable key"):
        cluster.announcer(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"}))
