"""BundleProxy that are not what they should be: another key's, or of another time."""

import functools
import gzip
import hashlib
import io
import json
import tarfile

import jwt

from bundles.publish.signing import SigningKey, _pack, canonical_json, etag_of


def etag(content):
    return etag_of(content)


def plain(content):
    return gzip.decompress(content)


def packed(tar):
    return gzip.compress(tar, mtime=0)


@functools.cache
def foreign_key(name):
    """A key of the name that OPA expects, but another one."""
    return SigningKey.generate("policy" if name in {"policy", "site"} else "data")


def genuine(deployment, name):
    return SigningKey.load(deployment.settings.bundle_keys / f"{name}.pem")


def resigned(name, content, key, *, revision=None, edit=None):
    """A bundle's files, signed anew: with another key, with another revision, or edited."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        files = {one.name.lstrip("/"): tar.extractfile(one).read() for one in tar if one.isfile()}
    del files[".signatures.json"]
    if revision:
        manifest = json.loads(files[".manifest"])
        files = {
            path: _renamed(body, manifest["revision"], revision) for path, body in files.items()
        }
    for path in files:
        if edit and path.endswith("data.json"):
            files[path] = canonical_json(edit(json.loads(files[path])))
    payload = {
        "files": [
            {"name": path, "hash": hashlib.sha256(body).hexdigest(), "algorithm": "SHA-256"}
            for path, body in sorted(files.items())
        ],
        "scope": name,
        "keyid": key.keyid,
    }
    token = jwt.encode(payload, key.private, algorithm="ES256", headers={"kid": key.keyid})
    return _pack({**files, ".signatures.json": canonical_json({"signatures": [token]})}, level=6)


def _renamed(body, before, after):
    return body.replace(before.encode(), after.encode())


def revive(deployment, rng):
    """What an attacker would write: no record is inactive, and the revision is the highest."""

    def edit(document):
        for records in document.values():
            if isinstance(records, dict):
                for record in records.values():
                    if isinstance(record, dict) and record.get("active") is False:
                        record["active"] = True
        if isinstance(document.get("revision"), int):
            document["revision"] += 1000
        return document

    return edit
