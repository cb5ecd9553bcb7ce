"""regorus in this process, with lictor's own Rego and data: `regorus_engine.py SETTINGS`.

The data is what the bundles hold. Its moments would become too old, since nothing is published
here, so the staleness limits are raised.
"""

import json
from hashlib import sha256
from pathlib import Path

import regorus
from worker import run, settings

GIVEN = settings()
_YEARS = 10**8

ENGINE = regorus.Engine()
# The wheel has been built without it.
ENGINE.add_extension("crypto.sha256", 1, lambda text: sha256(text.encode()).hexdigest())
for name, rego in GIVEN["rego"].items():
    ENGINE.add_policy(name, rego)
DATA = json.loads(Path(GIVEN["data"]).read_text())
DATA["registry"]["live"]["settings"] |= {"staleness_limit": _YEARS, "reconcile_limit": _YEARS}
ENGINE.add_data_json(json.dumps(DATA))
INPUTS = GIVEN["inputs"]


def decide(case):
    ENGINE.set_input_json(INPUTS[case["name"]])
    found = json.loads(ENGINE.eval_rule_as_json("data.lictor.decision"))
    return found["allow"], found["libraries"]


run(decide)
