"""Which OPA is used, and what is said when none can be."""

import gc
import gzip
import io
import json
import os
import socketserver
import tarfile
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from bundles.exceptions import OPAFailedError, OPAUnavailableError
from bundles.opa import binary
from bundles.opa.binary import IMAGE, OPA, PINNED, cache_folder, find_opa

# docker-py leaves a socket open that it could not connect.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")


@pytest.fixture(autouse=True)
def _collected():
    yield
    gc.collect()


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_opa(path, version):
    return script(path, f"echo 'Version: {version}'; echo 'Build Commit: x'")


@pytest.fixture
def environ(tmp_path, monkeypatch):
    """An environment with nothing in it: no OPA on PATH, no cache, no Docker, no Go."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.mark.parametrize(
    "version", [PINNED, f"v{PINNED}", "1.22.10", "1.23.0", "2.0.0", "1.30.0-dev"]
)
def test_named_binary_that_is_new_enough_is_used(environ, tmp_path, version):
    path = fake_opa(tmp_path / "opa", version)
    assert find_opa({**environ, "LICTOR_OPA_BIN": str(path)}) == OPA(
        path, version.removeprefix("v"), "LICTOR_OPA_BIN"
    )


@pytest.mark.parametrize("version", ["1.22.1", "1.21.3", "0.70.0", "1.9.9"])
def test_named_binary_too_old_is_refused_by_name_and_version(environ, tmp_path, version):
    old = fake_opa(tmp_path / "old-opa", version)
    fake_opa(tmp_path / "bin" / "opa", PINNED)
    with pytest.raises(OPAUnavailableError) as refused:
        find_opa({**environ, "LICTOR_OPA_BIN": str(old)})
    assert str(refused.value) == f"OPA {version} at {old} refused: {PINNED} or newer is needed"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo garbage", "does not print an OPA version"),
        ("exit 0", "does not print an OPA version"),
        ("printf 'Version: \\377\\376\\n'", "does not print an OPA version"),
        ("echo 'Version: 1.x'", "does not print an OPA version"),
        (f"echo 'Version: {PINNED}'; exit 3", "cannot be run"),
        ("kill -9 $$", "cannot be run"),
    ],
)
def test_named_binary_that_is_not_opa_is_refused_by_name(environ, tmp_path, text, words):
    path = script(tmp_path / "named", text)
    with pytest.raises(OPAUnavailableError, match=words) as refused:
        find_opa({**environ, "LICTOR_OPA_BIN": str(path)})
    assert str(path) in str(refused.value)


def test_named_binary_missing_or_not_executable_is_refused_by_name(environ, tmp_path):
    (tmp_path / "text").write_text("not a program")
    (tmp_path / "binary").write_bytes(b"\x7fELF garbage")
    (tmp_path / "binary").chmod(0o755)
    for name in ("nowhere", "text", "binary", "."):
        with pytest.raises(OPAUnavailableError, match="cannot be run"):
            find_opa({**environ, "LICTOR_OPA_BIN": str(tmp_path / name)})


def test_path_takes_precedence_over_the_cache(environ, tmp_path):
    fake_opa(tmp_path / "cache" / "lictor" / f"opa-{PINNED}", "1.24.0")
    assert find_opa(environ).origin == "cache"
    fake_opa(tmp_path / "bin" / "opa", "1.23.0")
    assert (find_opa(environ).origin, find_opa(environ).version) == ("PATH", "1.23.0")


def test_binary_on_path_too_old_is_named_and_skipped(environ, tmp_path, caplog):
    old = fake_opa(tmp_path / "bin" / "opa", "1.20.0")
    fake_opa(tmp_path / "cache" / "lictor" / f"opa-{PINNED}", PINNED)
    assert find_opa(environ).origin == "cache"
    assert caplog.messages == [f"OPA 1.20.0 at {old} refused: {PINNED} or newer is needed"]


def test_missing_opa_error_lists_attempts_and_remedies(environ):
    with pytest.raises(OPAUnavailableError) as refused:
        find_opa(environ)
    text = str(refused.value)
    assert text.splitlines()[0] == f"No OPA {PINNED} or newer was found."
    for words in (
        "PATH: no opa there", "cache: no opa there", f"Docker: {IMAGE} is not to be had",
        "Go: no Go toolchain on PATH", "LICTOR_OPA_BIN", f"pull {IMAGE}", "install Go",
    ):  # fmt: skip
        assert words in text


def test_failing_go_build_is_quoted_by_its_last_line(environ, tmp_path):
    script(tmp_path / "bin" / "go", "echo first >&2; echo 'no network' >&2; exit 1")
    with pytest.raises(OPAUnavailableError, match="Go: go install failed: no network"):
        find_opa(environ)
    assert not list((tmp_path / "cache").rglob("opa*"))


def test_go_build_result_is_cached(environ, tmp_path):
    built = f"#!/bin/sh\\necho 'Version: {PINNED}'\\n"
    script(
        tmp_path / "bin" / "go",
        f'echo "$@" >> {tmp_path}/asked; printf "{built}" > "$GOBIN/opa"',
    )
    found = find_opa(environ)
    assert (found.origin, found.path) == ("Go", cache_folder(environ) / f"opa-{PINNED}")
    assert find_opa(environ).origin == "cache"
    assert (tmp_path / "asked").read_text().split() == [
        "install", f"github.com/open-policy-agent/opa@v{PINNED}",
    ]  # fmt: skip


def test_cache_that_was_cut_off_is_built_again(environ, tmp_path):
    cached = tmp_path / "cache" / "lictor" / f"opa-{PINNED}"
    script(cached, "")
    cached.write_bytes(b"\x7fELF")
    script(
        tmp_path / "bin" / "go",
        f'printf \'#!/bin/sh\\necho "Version: {PINNED}"\\n\' > "$GOBIN/opa"',
    )
    assert find_opa(environ).origin == "Go"
    assert find_opa(environ).origin == "cache"


class Daemon(BaseHTTPRequestHandler):
    """As much of Docker's HTTP API as it takes to copy a file out of an image."""

    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass

    def answer(self, status, body, kind="application/json", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server = self.server
        server.asked.append(f"GET {self.path}")
        if self.path.endswith("/version"):
            self.answer(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
        elif "/archive" in self.path:
            stat = "eyJuYW1lIjoib3BhIn0="
            self.answer(200, server.archive, "application/x-tar", X_Docker_Container_Path_Stat=stat)
        elif "/images/" in self.path and server.has_image:
            self.answer(200, {"Id": "sha256:1", "RepoTags": [IMAGE], "Config": {}})
        elif "/containers/" in self.path:
            self.answer(200, {"Id": "c1", "Name": "/c1", "Config": {}})
        else:
            self.answer(404, {"message": "no such image"})

    def do_POST(self):
        self.server.asked.append(f"POST {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "/containers/create" in self.path:
            self.answer(201, {"Id": "c1", "Warnings": []})
        else:
            self.answer(500, {"message": "no registry to be reached"})

    def do_DELETE(self):
        self.server.asked.append(f"DELETE {self.path}")
        self.answer(204, b"")


class UnixHTTPServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    has_image = True
    archive = b""

    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("unix", 0)


def archive_of(name, body):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(body)
        tar.addfile(entry, io.BytesIO(body))
    return packed.getvalue()


@pytest.fixture
def dockerd(short_path, monkeypatch, environ):
    """Something that speaks Docker's API: no image registry can be reached from here, so no real
    daemon could have the image unless it had been built there."""
    server = UnixHTTPServer(str(short_path / "docker.sock"), Daemon)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{short_path}/docker.sock")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_image_binary_is_cached_and_its_container_removed(dockerd, environ):
    body = f"#!/bin/sh\necho 'Version: {PINNED}'\n".encode()
    dockerd.archive = archive_of("opa", body)
    found = find_opa(environ)
    assert (found.origin, found.version) == ("Docker", PINNED)
    assert found.path.read_bytes() == body
    assert found.path == cache_folder(environ) / f"opa-{PINNED}"
    assert dockerd.asked[-1].startswith("DELETE")
    assert find_opa(environ).origin == "cache"


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"", "is not to be had"),
        (b"garbage", "is not to be had"),
        (gzip.compress(b"x", mtime=0), "is not to be had"),
        (archive_of("other", b"x"), "holds no file /opa"),
        (archive_of("opa", b"garbage"), "cannot be run"),
    ],
)
def test_image_without_opa_is_reported(dockerd, environ, archive, words):
    dockerd.archive = archive
    with pytest.raises(OPAUnavailableError, match=f"Docker: .*{words}"):
        find_opa(environ)
    assert dockerd.asked[-1].startswith("DELETE")


def test_image_that_cannot_be_pulled_is_reported(dockerd, environ):
    dockerd.has_image = False
    with pytest.raises(OPAUnavailableError, match=rf"Docker: {IMAGE} is not to be had"):
        find_opa(environ)


def test_image_is_used_on_linux_only(environ, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(OPAUnavailableError, match="Docker: the image's binary runs on Linux only"):
        find_opa(environ)


def test_real_docker_daemon_gives_opa_or_a_reason(tmp_path):
    # With a daemon that has the image this is the real thing.
    target, refused = tmp_path / "opa", None
    try:
        binary._from_docker(target, os.environ)
    except OPAUnavailableError as error:
        refused = str(error)
    if refused is None:
        assert binary._probe(target, "Docker").version == PINNED
    else:
        assert refused.startswith(f"{IMAGE} is not to be had")
        assert not target.exists()


def test_cache_is_where_the_desktop_says(tmp_path):
    assert cache_folder({"XDG_CACHE_HOME": "/x"}).as_posix() == "/x/lictor"
    assert cache_folder({}).parts[-2:] == (".cache", "lictor")


def test_failing_opa_command_quotes_opa(opa_binary):
    assert json.loads(
        opa_binary.run("eval", "--format=json", "--stdin-input", "input.a", stdin=b'{"a": 7}')
    )
    with pytest.raises(OPAFailedError, match="rego_parse_error"):
        opa_binary.run("eval", "][")


def test_command_that_fails_in_silence_is_named(tmp_path):
    with pytest.raises(OPAFailedError, match="opa eval exited with 3"):
        OPA(script(tmp_path / "opa", "exit 3"), PINNED, "here").run("eval")
