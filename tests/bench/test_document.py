"""The section that `make bench` writes, its tables, and its plots."""

import json
from types import SimpleNamespace

import pytest

from bench.document import BEGIN, END, MarkersError, replace_section, section
from bench.plots import bars, lines
from bench.progress import Progress
from bench.tables import aims_table, number, table

PAGE = f"# Benchmarks\n\nKept.\n\n{BEGIN}\n\nold\n\n{END}\n\n## Also kept\n"


def test_section_between_the_markers_is_replaced_and_the_rest_kept():
    assert replace_section(PAGE, "new\n") == PAGE.replace("old", "new")


def test_writing_twice_changes_nothing():
    once = replace_section(PAGE, "new")
    assert replace_section(once, "new") == once


def test_page_without_markers_gets_the_section_at_its_end():
    page = replace_section("# Benchmarks\n\nKept.\n", "new")
    assert page == f"# Benchmarks\n\nKept.\n\n{BEGIN}\n\nnew\n\n{END}\n"


@pytest.mark.parametrize("page", [f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{PAGE}{BEGIN}\n"])
def test_markers_that_cannot_be_used_are_refused(page):
    with pytest.raises(MarkersError):
        replace_section(page, "new")


def row(name, value, group="g"):
    return {
        "group": group, "name": name, "unit": "µs", "value": value, "low": value - 1,
        "high": value + 1, "n": 9, "note": f"what {name} is",
    }  # fmt: skip


def test_section_has_tables_notes_aims_and_what_was_left_out():
    part = {
        "rows": [row("lictor", 12.0), row("a peer", 3.0)],
        "ratios": [
            {
                "name": "r",
                "aim": 4.0,
                "below": True,
                "unit": "×",
                "value": 5.0,
                "low": 3.0,
                "high": 6.0,
            }
        ],
        "missing": {"casbin": "no network"},
        "plots": [["images/x.svg", "A plot"]],
    }
    module = SimpleNamespace(TITLE="One decision", ABOUT="What it is.")
    page = section({"machine": "one.", "parts": {"d": part}}, {"d": module, "never run": module})
    for said in (
        "### One decision", "| lictor | 12.0 | 11.0–13.0 |", "- *a peer*: what a peer is.",
        "probably missed", "- casbin: no network.", "![A plot](images/x.svg)",
    ):  # fmt: skip
        assert said in page


def test_table_aligns_figures_to_the_right():
    assert list(table(["what", "ms"], [["a", "5"], ["bc", "12"]])) == [
        "| what | ms |", "| ---- | -: |", "| a    |  5 |", "| bc   | 12 |",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "said"), [(12345.6, "12,346"), (12.34, "12.3"), (1.234, "1.23"), (-63.14, "-63.1")]
)
def test_numbers_have_three_figures(value, said):
    assert number(value) == said


@pytest.mark.parametrize(
    ("value", "aim", "below", "verdict"),
    [
        (3, 4, True, "met"),
        (5, 4, True, "missed"),
        (6, 5, False, "met"),
        (4.5, 5, False, "probably missed"),
    ],
)
def test_aims_are_met_or_missed(value, aim, below, verdict):
    ratio = {
        "name": "r",
        "aim": aim,
        "below": below,
        "unit": "×",
        "value": value,
        "low": value - 0.9,
        "high": value + 0.9,
    }
    *_, last = aims_table([ratio])
    assert verdict in last


def test_plots_are_the_same_bytes_each_time(tmp_path):
    rows = [row("lictor", 12.0), row("a peer", 300.0)]
    for name in ("a", "b"):
        bars(tmp_path / f"{name}1.svg", rows, unit="µs", title="t")
        lines(tmp_path / f"{name}2.svg", {"s": [(10, 1.0), (100, 2.0)]}, x="x", y="y", title="t")
    for n in (1, 2):
        first, second = ((tmp_path / f"{name}{n}.svg").read_bytes() for name in "ab")
        assert first == second
        assert len(first) < 60_000
        assert b"<dc:date>" not in first


def test_progress_says_what_is_left(capsys):
    now = [0.0]
    progress = Progress({"a": 60, "b": 120}, clock=lambda: now[0], out=__import__("sys").stderr)
    progress.begin("a", "One")
    now[0] = 20.0
    progress("rounds", 3)
    progress("rounds", 4)  # at once: not printed again
    now[0] = 70.0
    assert progress.end("a") == 70.0
    progress.begin("b", "Two")
    said = capsys.readouterr().err
    assert "[0:00, about 3:00 left] about 3:00 for a, b" in said
    assert "[0:20, about 2:40 left] rounds: 3" in said
    assert "rounds: 4" not in said
    assert "[1:10, about 2:00 left] Two: about 2:00" in said
    json.dumps(progress.remaining())
