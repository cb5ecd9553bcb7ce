"""Histories made by Hypothesis, over real processes: `make histories` runs more of them."""

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from .house import MODES, PARTS, House
from .machine import Histories

MANY = int(os.environ.get("LICTOR_HISTORIES") or 0)


def test_what_was_acknowledged_holds_in_every_history(opa_binary):
    with House() as house:

        class InThisHouse(Histories):
            pass

        InThisHouse.house = house
        run_state_machine_as_test(
            InThisHouse,
            settings=settings(
                max_examples=MANY or 8,
                stateful_step_count=40,
                deadline=None,
                derandomize=not MANY,
                database=None,
                # A world of processes is not made again a hundred times.
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
        for part in PARTS:
            house.stop(part)
        house.start()
        house.rest()
        house.renew()
        for bearer, reason, libraries in house.made:
            for mode in MODES:
                (answer,) = house.ask(mode, bearer.text)
                assert (answer.reason, answer.libraries) == (reason, libraries), mode
        assert house.leaks() == []
        print(f"{MANY or 8} histories:", dict(sorted(house.counts.items())))
        assert house.counts["ok"] > 50
        assert len(house.counts) > 15, "a history that meets nothing shows nothing"
