"""Plots as plain SVG: bars, with least and most of the runs, and lines of what depends on one thing."""

import html

WIDTH = 760
BLUE, ORANGE, GREY = "#2f6f9f", "#c8702a", "#8a8a8a"
STYLE = ("<style>text{font:12px sans-serif;fill:#333}.title{font-size:14px;font-weight:bold}.faint{fill:#777}"
    "line{stroke:#ccc}</style>")


def _svg(height, body):
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}">', STYLE, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *body,
        "</svg>"])


def _text(x, y, text, anchor="start", kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{html.escape(text)}</text>'


def _rect(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}"/>'


def _line(x1, y1, x2, y2, colour="#ccc"):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="stroke:{colour}"/>'


def bars(title, rows):
    """`rows`: (label, value, least, most, colour, text)."""
    left, right, step, top = 330, 90, 26, 40
    scale = (WIDTH - left - right) / max(row[3] for row in rows)
    body = [_text(12, 22, title, kind="title")]
    for i, (label, value, least, most, colour, text) in enumerate(rows):
        y = top + i * step
        body += [_text(left - 8, y + 14, label, "end"), _rect(left, y + 3, value * scale, step - 8, colour)]
        if most > least:
            body.append(_line(left + least * scale, y + step / 2 - 1, left + most * scale, y + step / 2 - 1, "#000"))
        body.append(_text(left + most * scale + 6, y + 14, text))
    return _svg(top + len(rows) * step + 12, body)


def panels(title, series):
    """`series`: (name, [(label, value)]) of what is measured at several settings; a panel each, all from 0."""
    columns, width, height, top = 3, WIDTH / 3, 170, 36
    body = [_text(12, 22, title, kind="title")]
    for i, (name, points) in enumerate(series):
        x0, y0 = i % columns * width + 14, top + i // columns * height + 24
        inner, tall = width - 34, height - 66
        most = max(value for _, value in points) * 1.15 or 1
        body += [_text(x0, y0 - 6, name), _line(x0, y0 + tall, x0 + inner, y0 + tall)]
        step = inner / max(1, len(points))
        places = [(x0 + step * (k + 0.5), y0 + tall - value / most * tall) for k, (_, value) in enumerate(points)]
        body.append('<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>' %
            (BLUE, " ".join(f"{x:.1f},{y:.1f}" for x, y in places)))
        for (x, y), (label, value) in zip(places, points):
            body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{BLUE}"/>',
                _text(x, y - 7, _short(value), "middle"), _text(x, y0 + tall + 16, label, "middle", "faint")]
    return _svg(int(top + (len(series) + columns - 1) // columns * height + 8), body)


def _short(value):
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def _bar(row, name, label, colour, unit):
    figure = row["figures"][name]
    return label, figure["median"], figure["min"], figure["max"], colour, f"{figure['median']:,.0f}{unit}"


def _throughput(rows):
    out = []
    for section in ("W1", "W2", "W3", "file"):
        for row in (row for row in rows if row["section"] == section and "events_per_s" in row["figures"]):
            if "one core" in row["what"]:
                continue
            ceiling = row["what"].startswith("ceiling")
            out.append(_bar(row, "events_per_s", f"{section} {row['what'].removeprefix('ceiling: ')}",
                GREY if ceiling else BLUE, ""))
    return out


def _latency(rows):
    out = []
    for row in (row for row in rows if row["section"] == "W4"):
        for name, colour in (("p50_ms", BLUE), ("p99_ms", ORANGE)):
            figure = row["figures"][name]
            out.append((f"{row['what']}, {name[:3].upper()}", figure["median"], figure["min"], figure["max"], colour,
                f"{figure['median']:.1f} ms"))
    return out


def _scaling(rows):
    names = {"workers": "workers", "batch": "batch.max", "partitions": "partitions", "replicas": "replicas",
        "table": "orders in the table", "backlog": "records of backlog"}
    out = []
    for section, name in names.items():
        points = [(_label(row["what"]), row["figures"]["events_per_s"]["median"]) for row in rows
            if row["section"] == section]
        if len(points) > 1:
            out.append((name, points))
    return out


def _label(what):
    number = int("".join(c for c in what if c.isdigit()))
    return f"{number // 1000000}M" if number >= 1000000 else f"{number // 1000}k" if number >= 1000 else f"{number}"


def draw(rows):
    """[(file name, what it shows, SVG)] of what there are figures for."""
    found = []
    for name, title, data, shape in (
            ("throughput.svg", "events/s: the worker (blue), the ledger write alone (grey)", _throughput(rows), bars),
            ("latency.svg", "record timestamp to PostgreSQL commit, by rate", _latency(rows), bars),
            ("scaling.svg", "events/s of W1 by one setting at a time", _scaling(rows), panels)):
        if data:
            found.append((name, title, shape(title, data)))
    return found
