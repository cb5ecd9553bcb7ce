"""Search for every secret of a deployment in every file that it left: logs, records, bundles, what OPA has kept.

Only the files that are made to hold a secret may hold it.
"""

import http.client
import json

from lictor.settings import read_secret
from tests.support.canaries import content_of, may_hold_secrets


def secrets_of(deployment):
    """What no file may show: bearers, arguments, and what the key files hold."""
    found = [*deployment.callers.secrets, deployment.callers.unknown]
    for path in deployment.state.rglob("*"):
        if path.is_file() and may_hold_secrets(path):
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


def leaks(deployment, *bearers):
    """The places that hold a secret, as `file`; bearers are given by name so that none is ever missed."""
    wanted = {*(bearer.encode() for bearer in bearers), *secrets_of(deployment)}
    places = []
    for path in sorted(deployment.folder.rglob("*")):
        if path.is_file() and not may_hold_secrets(path):
            content = content_of(path)
            if any(secret in content for secret in wanted):
                places.append(str(path.relative_to(deployment.folder)))
    for name, content in served(deployment).items():
        if any(secret in content for secret in wanted):
            places.append(name)
    return places


def served(deployment):
    """The metrics of `lictor serve`."""
    port = int(deployment.settings.bundles_url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    bearer = read_secret(deployment.settings.bundles_token_file)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {bearer}"})
        return {"/metrics": connection.getresponse().read()}
    finally:
        connection.close()
