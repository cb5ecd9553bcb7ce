"""Scenarios made by Hypothesis, over real processes: `make scenarios` runs more of them."""

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .driver import MODES, PARTS, ScenarioDriver
from .machine import Scenarios

MANY = int(os.environ.get("LICTOR_SCENARIOS") or 0)


def test_acknowledged_commands_hold_in_every_scenario(opa_binary):
    with ScenarioDriver() as driver:

        class ScenariosHere(Scenarios):
            pass

        ScenariosHere.driver = driver
        run_state_machine_as_test(
            ScenariosHere,
            settings=settings(
                max_examples=MANY or 8,
                stateful_step_count=40,
                deadline=None,
                derandomize=not MANY,
                database=None,
                # Shrinking would start a hundred deployments.
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
        for part in PARTS:
            driver.stop(part)
        driver.start()
        driver.rest()
        driver.renew()
        for bearer, reason, libraries in driver.made:
            for mode in MODES:
                (answer,) = driver.authorize(mode, bearer.text)
                assert (answer.reason, answer.libraries) == (reason, libraries), mode
        assert driver.leaks() == []
        print(f"{MANY or 8} scenarios:", dict(sorted(driver.counts.items())))
        assert driver.counts["ok"] > 50
        assert len(driver.counts) > 15, "a scenario that meets nothing shows nothing"
