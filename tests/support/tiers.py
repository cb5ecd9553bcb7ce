"""Families of tests whose members differ in one value alone."""

import pytest


def long_family(members, *, quick):
    """Values for `parametrize`, of which all but the first `quick` run in the tier `system`."""
    members = list(members)
    return [
        *members[:quick],
        *(pytest.param(one, marks=pytest.mark.system) for one in members[quick:]),
    ]
