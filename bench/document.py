"""Writes the section of `docs/benchmarks.md` that `make bench` measures; the rest is left alone."""

from bench.tables import aims_table, notes, rows_tables

BEGIN = "<!-- made by `make bench`; what stands here is replaced -->"
END = "<!-- end of what `make bench` made -->"


_METHOD = (
    "All that is compared in a table ran in the same rounds, in turns. A figure is the median of "
    "the rounds' medians, with its 95 % confidence interval (order statistics); a ratio is the "
    "median of the rounds' ratios. Whatever decides answered the same cases first, and is left "
    "out if it answered one otherwise. `make bench FULL=1` measures all sizes, and "
    "`make bench PARTS=calls,growth` some parts."
)


class MarkersError(Exception):
    """A page has a marker twice, or one without the other."""


def replace_section(page, section):
    """The page with the section between the markers, or at its end if it has none.

    Raises:
        MarkersError: the markers cannot be used.
    """
    counts = page.count(BEGIN), page.count(END)
    made = f"{BEGIN}\n\n{section.strip()}\n\n{END}"
    if counts == (0, 0):
        return f"{page.rstrip()}\n\n{made}\n"
    if counts != (1, 1) or page.index(BEGIN) > page.index(END):
        raise MarkersError(f"the page has {counts[0]} times {BEGIN!r}, {counts[1]} times {END!r}")
    before, _, rest = page.partition(BEGIN)
    return before + made + rest.partition(END)[2]


def section(results, parts):
    """The whole section, in Markdown.

    Args:
        results: what `bench.run` measured.
        parts: key to the module of each part, in order.
    """
    lines = [
        "## Measured by `make bench`",
        "",
        f"The machine: {results['machine']}",
        "",
        _METHOD,
        "",
        "### Aims",
        "",
    ]
    measured = {key: results["parts"][key] for key in parts if key in results["parts"]}
    ratios = [one for part in measured.values() for one in part.get("ratios", ())]
    lines += aims_table(ratios)
    for key, part in measured.items():
        module = parts[key]
        lines += ["", f"### {module.TITLE}", "", module.ABOUT]
        if more := getattr(module, "more", None):
            lines += more(part)
        lines += rows_tables(part["rows"])
        lines += notes(part["rows"])
        lines += [line for one in part.get("plots", ()) for line in ("", f"![{one[1]}]({one[0]})")]
        if part["missing"]:
            lines += ["", "Left out:", ""]
            lines += [f"- {name}: {why}." for name, why in part["missing"].items()]
    return "\n".join(lines)
