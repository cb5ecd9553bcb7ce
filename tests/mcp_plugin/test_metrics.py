"""What Prometheus and the record get of decisions and lists; and the dashboard over it."""

import json
import re
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from mcp_plugin import BearerAuth, PolicyMiddleware
from mcp_plugin.metrics import metrics
from pdp_client import PDP, Action, BearerVerifier, Decision, FileRecord, Issuer, Keyring, Reason

from .conftest import demo_server, serving

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "lictor.json"
pytestmark = pytest.mark.anyio


def samples(registry, name, *labels):
    """The values of a metric, by these of its labels."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }


@pytest.fixture
def ada(grants):
    bearer = grants.token("search", libraries=["poe"])
    grants.lay()
    return bearer


async def test_decision_counts_by_method_reason_and_source(serve_plain, ada):
    served = await serve_plain()
    await served.call("search", bearer=ada)
    await served.refusal("delete", bearer=ada)
    await served.refusal("delete")
    await served.call("get_health")
    with pytest.raises(Exception, match="permission"):
        async with served.client(ada) as client:
            await client.read_resource("data://secret")

    assert samples(served.metrics, "lictor_decisions_total", "method", "reason", "cached") == {
        ("tools/call", "ok", "false"): 2,
        ("tools/call", "tool_not_allowed", "false"): 1,
        ("tools/call", "missing_token", "false"): 1,
        ("resources/read", "tool_not_allowed", "false"): 1,
    }
    assert samples(served.metrics, "lictor_decision_seconds_count", "cached") == {("false",): 5}
    ((_, seconds),) = samples(served.metrics, "lictor_decision_seconds_sum").items()
    assert 0 < seconds < 60
    assert samples(served.metrics, "lictor_decision_revision") == {(): 42}
    assert samples(served.metrics, "lictor_decision_epoch") == {(): 1}
    assert 0 < samples(served.metrics, "lictor_decision_data_age_seconds")[()] < 60


async def test_list_counts_what_it_hid(serve_plain, ada):
    served = await serve_plain()
    before = samples(served.metrics, "lictor_lists_total", "reason")
    assert before == {}
    assert await served.tools(ada, mode="legacy") == {"search", "get_health"}

    assert samples(served.metrics, "lictor_lists_total", "reason") == {("ok",): 1}
    assert samples(served.metrics, "lictor_list_hidden_total") == {(): 3}
    assert samples(served.metrics, "lictor_list_seconds_count") == {(): 1}


async def test_metric_labels_never_come_from_a_caller():
    registry = CollectorRegistry()
    for i in range(100):
        decision = Decision.refused(Reason.INVALID_TOKEN)
        action = Action(name=f"tool-{i}", method=f"method/{i}", tags=[f"tag-{i}"])
        metrics(registry).decided(action, decision, seconds=0.001)

    assert samples(registry, "lictor_decisions_total", "method", "reason") == {
        ("other", "invalid_token"): 100
    }


async def test_two_servers_on_one_pdp_count_each_decision_once(plain_pdp, ada):
    registry = CollectorRegistry()
    for _ in range(2):
        PolicyMiddleware(plain_pdp, registry=registry)
    await plain_pdp.authorize(ada, tool="search")

    assert samples(registry, "lictor_decisions_total", "reason") == {("ok",): 1}


async def test_failing_observer_changes_nothing_and_is_logged_once(plain_pdp, ada, caplog):
    class Broken:
        def decided(self, *_, **__):
            raise RuntimeError("broken by " + ada)

    plain_pdp.observe(Broken())
    for _ in range(3):
        assert (await plain_pdp.authorize(ada, tool="search")).allow
    assert (await plain_pdp.visible(ada, actions=[Action(name="search")])).indices == (0,)

    reported = [one for one in caplog.messages if "observer" in one]
    assert reported == ["pdp.observer_failed observer=Broken error=RuntimeError"]


# The record of a list


@pytest.fixture
async def recorded(plain_opa, grants, tmp_path):
    verifier = BearerVerifier([Issuer("mnemosyne", Keyring.from_jwks({"keys": []}))])
    path = tmp_path / "decisions.jsonl"
    record = FileRecord(path)
    async with PDP(
        opa_url=plain_opa.unix_url, verifier=verifier, record=record, server="demo", deadline=10
    ) as pdp:
        pdp.lines = lambda: [json.loads(line) for line in path.read_text().splitlines()]
        pdp.record = record
        yield pdp


async def test_list_record_names_what_was_hidden_and_from_whom(guard, recorded, ada):
    served = await guard(None, pdp=recorded)
    await served.tools(ada, mode="legacy")

    (line,) = recorded.lines()
    assert set(line) == {
        "id",
        "at",
        "took_ms",
        "credential",
        "context",
        "list",
        "epoch",
        "revision",
    }
    assert line["credential"]["kind"] == "token"
    assert line["context"] == {"server": "demo", "transport": "http"}
    line["list"]["hidden"]["tools/call"].sort()
    assert line["list"] == {
        "reason": "ok",
        "shown": 1,
        "hidden": {"tools/call": ["crash", "delete", "state"]},
    }
    assert (line["epoch"], line["revision"]) == (1, 42)
    assert ada not in json.dumps(line)


async def test_list_record_marks_a_bad_bearer(recorded):
    await recorded.visible("not a token", actions=[Action(name="search")])
    (line,) = recorded.lines()
    assert line["credential"] == {"kind": "anonymous", "rejected": True}
    assert line["list"]["reason"] == "invalid_token"


async def test_list_that_cannot_be_recorded_is_empty(recorded, ada):
    displayed = [Action(name="search")]
    assert (await recorded.visible(ada, actions=displayed)).indices == (0,)
    recorded.record.close()
    assert await recorded.visible(ada, actions=displayed) == await recorded.visible(
        None, actions=displayed
    )
    assert (await recorded.visible(ada, actions=displayed)).reason is Reason.UNAVAILABLE


async def test_list_is_not_a_use_of_a_token(recorded, ada, tmp_path):
    from lictor.decision_log import DecisionLogReader

    await recorded.visible(ada, actions=[Action(name="search")])
    place = tmp_path / "place"
    assert DecisionLogReader(tmp_path / "decisions.jsonl", place=place).take_uses() == {}
    await recorded.authorize(ada, tool="search")
    assert len(DecisionLogReader(tmp_path / "decisions.jsonl", place=place).take_uses()) == 1


# The page and the dashboard


async def test_metrics_page_lists_every_metric_with_its_labels(plain_pdp):
    registry = CollectorRegistry()
    PolicyMiddleware(plain_pdp, registry=registry)
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", page, re.MULTILINE)
    listed = {name.removesuffix("_total"): re.findall(r"`(\w+)`", labels) for name, labels in rows}

    known = {
        collector._name: [*collector._labelnames] for collector in registry._collector_to_names
    }
    assert listed == known


def asked_for(dashboard):
    """Each metric that a query names, with the labels it uses."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    for query in queries:
        by = re.findall(r"by \(([^)]*)\)", query)
        grouped = {label.strip() for labels in by for label in labels.split(",")}
        found = re.findall(r"\b((?:lictor|mcp)_\w+)(?:\{([^}]*)\})?", query)
        assert found, query
        for name, matchers in found:
            yield name, grouped | set(re.findall(r"(\w+)\s*[=!]~?", matchers)), query


async def test_dashboard_queries_use_existing_metrics(deployment):
    """Those of an MCP server after a few calls, and those of `lictor serve`."""
    registry = CollectorRegistry()
    mcp = demo_server()
    policy = PolicyMiddleware(deployment.pdp(), registry=registry)
    mcp.add_middleware(policy)
    mcp.auth = BearerAuth(policy, base_url="https://mcp.example.org")
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada")
    await deployment.settle()
    async with serving(mcp, registry) as served:
        await served.call("delete", bearer=bearer)
        async with httpx2.AsyncClient() as http:
            await http.post(served.url)
    known = {}
    for family in registry.collect():
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    secret = deployment.settings.bundles_token_file.read_text().strip()
    async with httpx2.AsyncClient() as http:
        answer = await http.get(
            f"{deployment.serving.url}/metrics", headers={"Authorization": f"Bearer {secret}"}
        )
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)

    for name, labels, query in asked_for(json.loads(DASHBOARD.read_text())):
        assert name in known, query
        assert labels - {"job", "instance"} <= known[name], query
