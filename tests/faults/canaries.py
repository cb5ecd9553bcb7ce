"""Looks for every secret of a world in every file that it left: logs, records, bundles, what OPA has kept.

Only the files that are made to hold a secret may hold it; they are named here.
"""

import gzip
import http.client
import io
import json
import subprocess
import tarfile
import zlib

from lictor.settings import read_secret

HOLD_SECRETS = {
    "*.jwks", "policy.pem", "data.pem", "client.token", "bundles.token", "instances.key", "newest.key",
}  # fmt: skip
"""Files made to hold secrets. `*.public.jwks` is not among them: it must hold none."""


def secrets_of(world):
    """What no file may show: bearers, arguments, and what the key files hold."""
    found = [*world.callers.secrets, world.callers.stranger]
    for path in world.state.rglob("*"):
        if path.is_file() and _is_secret(path):
            text = path.read_text()
            if path.suffix == ".jwks":
                found += [
                    one[part]
                    for one in json.loads(text)["keys"]
                    for part in ("d", "k")
                    if part in one
                ]
            elif path.suffix == ".pem":
                found.append(text.splitlines()[1])
            else:
                found.append(text.strip())
    assert len(found) > 8, "the keys are not where they were"
    return [one.encode() for one in found]


def leaks(world, bearer):
    """The places that hold a secret, as `file`; a bearer is given by name so that it is never missed."""
    wanted = {bearer.encode(), *secrets_of(world)}
    places = []
    for path in sorted(world.folder.rglob("*")):
        if path.is_file() and not _is_secret(path):
            content = _content(path)
            if any(secret in one for one in (content, _unpacked(content)) for secret in wanted):
                places.append(str(path.relative_to(world.folder)))
    for name, content in served(world).items():
        if any(secret in content for secret in wanted):
            places.append(name)
    return places


def _content(path):
    """A file's bytes; none if it was replaced meanwhile.

    Another process reads the registry: if this one closed it, its own connections lost their locks, `lictor serve`
    cut the registry's shared memory, and the bus error killed the tests.
    https://www.sqlite.org/howtocorrupt.html (2.2)
    """
    if path.name.startswith("registry.db"):
        return subprocess.run(["cat", path], check=False, capture_output=True).stdout
    try:
        return path.read_bytes()
    except OSError:
        return b""


def served(world):
    """What `lictor serve` tells who asks: metrics."""
    port = int(world.settings.bundles_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    bearer = read_secret(world.settings.bundles_token_file)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {bearer}"})
        return {"/metrics": connection.getresponse().read()}
    finally:
        connection.close()


def _is_secret(path):
    public = path.name.endswith((".public.jwks", ".pub.pem"))
    return not public and any(path.match(name) for name in HOLD_SECRETS)


def _unpacked(content):
    """A bundle's files; nothing for whatever is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content))) as tar:
            return b"".join(tar.extractfile(one).read() for one in tar if one.isfile())
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError):
        return b""
