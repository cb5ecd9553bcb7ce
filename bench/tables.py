"""Tables in Markdown, for the terminal and the documentation alike."""


def table(heads, rows):
    """A table with columns of even width; figures are on the right."""
    cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(heads))]
    figures = [all(_is_figure(row[n], n) for row in cells[1:]) for n in range(len(heads))]

    def line(row):
        padded = (
            cell.rjust(width) if figure else cell.ljust(width)
            for cell, width, figure in zip(row, widths, figures, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    yield line(cells[0])
    yield (
        "|"
        + "|".join(
            f" {'-' * (width - 1)}: " if figure and width > 1 else f" {'-' * width} "
            for width, figure in zip(widths, figures, strict=True)
        ).replace(": |", ": |")
        + "|"
    )
    yield from map(line, cells[1:])


def _is_figure(cell, column):
    # The first column has names, which may begin with a number.
    named = column == 0 and any(char.isalpha() for char in cell)
    return bool(cell) and not named and (cell[0].isdigit() or cell[0] == "-")


def number(value):
    """Three or more significant figures, as people write them."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def rows_tables(rows):
    """A table for each group of rows, in the order in which they come."""
    for group in dict.fromkeys(row["group"] for row in rows):
        chosen = [row for row in rows if row["group"] == group]
        (unit,) = {row["unit"] for row in chosen}
        yield ""
        yield from table(
            [group, unit, "95 %"],
            (
                (row["name"], number(row["value"]), f"{number(row['low'])}–{number(row['high'])}")
                for row in chosen
            ),
        )


def notes(rows):
    """What a row does less, or more, than others; once for each name."""
    said = dict.fromkeys((row["name"], row["note"]) for row in rows if row.get("note"))
    if said:
        yield ""
        yield from (f"- *{name}*: {note}." for name, note in said)


def aims_table(ratios):
    """Ratios with their aims, and whether they are met."""
    yield from table(
        ["what", "measured", "95 %", "aim", ""],
        (
            (
                one["name"], _with_unit(one["value"], one["unit"]),
                f"{number(one['low'])}–{number(one['high'])}", _aim(one), _verdict(one),
            )
            for one in ratios
            if one["aim"] is not None
        ),
    )  # fmt: skip


def _with_unit(value, unit):
    return f"{number(value)} {unit}"


def _aim(one):
    return f"{'≤' if one['below'] else '≥'} {one['aim']:g} {one['unit']}"


def _verdict(one):
    met = one["value"] <= one["aim"] if one["below"] else one["value"] >= one["aim"]
    sure = not one["low"] <= one["aim"] <= one["high"]
    return f"{'' if sure else 'probably '}{'met' if met else 'missed'}"
