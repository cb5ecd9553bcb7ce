"""What OPA allocates for a decision: `python -m bench.allocations [--json]`.

Allocations are the same on every machine, unlike times, so a test holds them to `allocations.json`
(`tests/bench/test_allocations.py`). Both come from `opa bench` over the product's rules and a
registry of ten thousand tokens in 64 shards, as `lictor serve` publishes it. The time of a decision
is given as a multiple of that of the caller's grant in the same run.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from bench.generated import GeneratedRegistry
from bundles.build.policies import product_sources
from bundles.opa.binary import OPA, find_opa
from bundles.publish.records import shard_of, shards_of_bytes
from bundles.publish.signing import canonical_records
from registry import Kind, Ref

SHARDS = 64
TOKENS = 10_000
RECORDED = Path(__file__).parent / "allocations.json"
QUERIES = {"decision": "data.lictor.decision", "grant": "data.lictor.caller.granted"}

_LIMIT = 10**9
"""Seconds: the heartbeat of the dataset is as old as the file."""


def dataset(generated: GeneratedRegistry) -> dict:
    """All of `data`, as an OPA holds it that runs the bundles of `lictor serve`."""
    rows = generated.rows()
    records = {
        Kind.USERS: {row["id"]: {"name": row["name"], "active": True} for row in rows["users"]},
        Kind.TOKENS: {
            row["digest"]: {
                "label": row["label"], "user": row["user"], "active": True, "expires_at": None,
                "libraries": row["libraries"], "tools": row["tools"],
            }
            for row in rows["tokens"]
        },
        Kind.TEAMS: {
            row["id"]: {
                "name": row["name"], "owner": row["owner"], "active": True,
                "active_jti": row["active_jti"], "workspaces": row["workspaces"],
                "tools": row["tools"],
            }
            for row in rows["teams"]
        },
        Kind.WORKSPACES: {
            row["id"]: {"name": row["id"], "libraries": [f"lib-{n}" for n in range(4)]}
            for row in rows["workspaces"]
        },
        Kind.KEYS: {"team-1": {"alg": "EdDSA", "active": True}},
    }  # fmt: skip
    shards = [f"{n:02x}" for n in range(SHARDS)]
    base = {shard: {"encoding": "json", "epoch": 1, "revision": 42} for shard in shards}
    for kind, of_kind in records.items():
        for id_, record in of_kind.items():
            part = base[shard_of(Ref(kind, id_), SHARDS)].setdefault(kind.value, {})
            part[id_] = canonical_records(record).decode()
    now = time.time_ns()
    roots = {"live": "registry/live", "heartbeat": "registry/heartbeat"}
    roots |= {f"base-{shard}": f"registry/base/{shard}" for shard in shards}
    manifests = {
        name: {"revision": "1:42", "roots": [root], "rego_version": 0}
        for name, root in roots.items()
    }
    site = {"revision": "site", "clock": False, "arguments": False, "libraries": False}
    return {
        "registry": {
            "base": base,
            "live": {
                "epoch": 1, "revision": 42, "since": dict.fromkeys(shards, 42),
                "shards": shards_of_bytes(SHARDS),
                "settings": {
                    "lockdown": False, "staleness_limit": _LIMIT, "reconcile_limit": _LIMIT,
                    "listable": {"anonymous": [], "rejected": []}, "issuers": ["mnemosyne"],
                },
            },
            "heartbeat": {
                "epoch": 1, "revision": 42, "policy": ["policy"], "site": ["site"],
                "synced_at_ns": now, "reconciled_at_ns": now,
            },
        },
        "lictor": {"manifest": {"revision": "policy"}},
        "site": {"manifest": site, "deny": [], "hidden": []},
        "system": {
            "bundles": {
                **{name: {"manifest": manifest} for name, manifest in manifests.items()},
                "site": {"manifest": {"revision": "site", "roots": ["site"], "rego_version": 1}},
            }
        },
        "local": {"protects_roots": True},
    }  # fmt: skip


def inputs(generated: GeneratedRegistry) -> dict:
    """A call with a token that has two patterns, and one of a team."""
    more = {
        "action": {"method": "tools/call", "name": "search"},
        "context": {"server": "bench", "transport": "http"},
    }
    claims = {
        "iss": "mnemosyne", "typ": "team", "sub": f"team:{generated.team_id(5)}", "jti": "jti-5",
        "iat": 1_700_000_000, "exp": 4_102_444_800,
    }  # fmt: skip
    return {
        "token": {"credential": {"kind": "token", "digest": generated.digest(5)}, **more},
        "team": {"credential": {"kind": "jwt", "kid": "team-1", "claims": claims}, **more},
    }


def measure(opa: OPA, folder: Path) -> dict:
    """Return allocations and nanoseconds by query and credential, and whether all was allowed."""
    generated = GeneratedRegistry(TOKENS)
    for file in product_sources("lictor"):
        (folder / "rego" / file.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "rego" / file.name).write_bytes(file.content)
    (folder / "data.json").write_text(json.dumps(dataset(generated)))
    measured = {}
    for credential, given in inputs(generated).items():
        (folder / "input.json").write_text(json.dumps(given))
        loaded = (f"--data={folder / 'rego'}", f"--data={folder / 'data.json'}")
        arguments = (*loaded, f"--input={folder / 'input.json'}")
        answer = opa.run("eval", *arguments, "--format=raw", QUERIES["decision"], timeout=60)
        decision = json.loads(answer)
        assert decision["allow"], decision
        for name, query in QUERIES.items():
            result = json.loads(
                opa.run("bench", *arguments, "--benchmem", "--format=json", query, timeout=60)
            )
            measured[f"{name}, {credential}"] = {
                "allocations": result["MemAllocs"] // result["N"],
                "ns": result["T"] // result["N"],
            }
    return measured


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"record them in {RECORDED.name}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lictor-") as folder:
        measured = measure(find_opa(), Path(folder))
    if arguments.write:
        recorded = {name: one["allocations"] for name, one in measured.items()}
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
    if arguments.json:
        print(json.dumps(measured))
        return
    print("| | allocations | µs | against the grant |\n| --- | --- | --- | --- |")
    for name, one in measured.items():
        grant = measured[f"grant, {name.partition(', ')[2]}"]["ns"]
        times = f"{one['ns'] / grant:.1f} ×"
        print(f"| {name} | {one['allocations']:,} | {one['ns'] / 1000:.0f} | {times} |")


if __name__ == "__main__":
    main()
