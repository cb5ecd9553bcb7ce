"""What the build accepts is in force in a deployment; what it cannot check fails closed."""

import pytest

from pdp_client import Action

pytestmark = pytest.mark.anyio

PREFIX = "package site\n\n"


def deny(body, action="action.name"):
    return (
        f'{PREFIX}deny contains {{"action": {action}, "code": "closed", "message": "Closed."}} if {{\n'
        f"\tsome action in data.lictor.actions\n\t{body}\n}}\n"
    )


async def decided(make_deployment, site, action):
    deployment = await make_deployment(site=site)
    await deployment.add_user("ada")
    bearer = await deployment.create_token("ada", libraries=["lib-a", "lib-b"])
    await deployment.settle()
    return await deployment.pdp().decide(bearer, action)


PAY = Action(
    name="pay",
    tags=("eu", "finance", "write"),
    arguments={"to": {"bank": "secret-bank"}, "ids": [1, 2]},
    annotations={"destructiveHint": True},
)
REFUSING = {
    "walk": deny('walk(action, [_, value])\n\tvalue == "secret-bank"'),
    "iteration": deny('some _, value in action\n\tvalue.to.bank == "secret-bank"'),
    "text": deny('contains(json.marshal(action), "secret-bank")'),
    "a function": deny("_bad(action)") + '\n_bad(x) if {\n\twalk(x, [_, v])\n\tv == "secret-bank"\n}\n',
    "a set of actions": deny("true", "one").replace(
        "some action in data.lictor.actions", "some one in _all\n\tcontains(json.marshal(one), `secret-bank`)"
    )
    + "\n_all contains a if some a in data.lictor.actions\n",
    "input": deny('contains(sprintf("%v", [input.action]), "secret-bank")'),
    "tags in another order": deny("true", '{"tags": ["write", "eu"]}'),
    "a set of tags": deny("true", '{"tags": {"finance"}}'),
    "a hint": deny("true", '{"annotations": {"destructiveHint": true}}'),
    "arguments of a part": deny("true", '{"arguments": {"ids": [2]}}'),
}  # fmt: skip


@pytest.mark.parametrize("rule", REFUSING)
async def test_rule_refuses_with_its_code(make_deployment, rule):
    decision = await decided(make_deployment, REFUSING[rule], PAY)
    assert (decision.allow, decision.reasons) == (False, ("site:closed", "site_rule"))


@pytest.mark.parametrize("rule", ["tags in another order", "a set of tags"])
async def test_part_leaves_other_actions_alone(make_deployment, rule):
    decision = await decided(make_deployment, REFUSING[rule], Action(name="pay", tags=("read",)))
    assert decision.allow


async def test_denial_of_unknown_shape_refuses_with_the_tables_message(make_deployment):
    site = f'{PREFIX}deny contains json.unmarshal(`"text"`)\n'
    decision = await decided(make_deployment, site, PAY)
    assert (decision.allow, decision.reason) == (False, "site_rule")
    assert decision.message == "A rule of this site refused the call."


@pytest.mark.parametrize("element", ["7", '{"uid": "lib-a"}', "null", '["lib-a"]'])
async def test_hidden_of_unknown_shape_hides_everything(make_deployment, element):
    site = f"{PREFIX}hidden contains json.unmarshal(`{element}`)\n"
    decision = await decided(make_deployment, site, PAY)
    assert (decision.allow, decision.libraries) == (True, ())
