"""A small sample of mutants in each run of the long tests, so that `make mutants-python` keeps working."""

import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent / "run.py"
MODULES = (
    "pdp_client/bearer/*",
    "pdp_client/opa/response.py",
    "mcp_plugin/protocol/function_arguments.py",
)
# Those that start no OPA, so that nothing in the result depends on how busy the machine is.
TESTS = (
    "tests/pdp_client/bearer",
    "tests/pdp_client/test_decision.py",
    "tests/mcp_plugin/protocol/test_function_arguments.py",
)
SAMPLE = 40


def test_mutants_of_a_fixed_sample_are_noticed(tmp_path):
    report = tmp_path / "verdicts.json"
    tests = [word for test in TESTS for word in ("--test", test)]
    run = subprocess.run(
        [sys.executable, RUN, *MODULES, *tests, "--sample", str(SAMPLE), "--json", report],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(json.loads(report.read_text())) == SAMPLE
