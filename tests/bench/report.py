"""The results as a table on the terminal, and as BENCHMARKS.md with its plots, made from the JSON file alone."""

import json
import os

from . import plot
from .results import UNITS

# How figures are called at the top of a column.
SHORT = {
    "events_per_s": "events/s", "credited_per_s": "credited/s", "worker_us": "worker µs", "redis_us": "Redis µs",
    "kafka_us": "broker µs", "postgres_us": "PostgreSQL µs", "outside_us": "outside PostgreSQL µs",
    "driver_us": "driver µs", "peak_mb": "peak MB", "idle_mb": "idle MB", "p50_ms": "P50 ms", "p99_ms": "P99 ms",
    "late_p99_ms": "generator late P99 ms", "late_max_ms": "late max ms", "first_poll_ms": "first poll ms",
    "first_credit_ms": "first credit ms", "join_to_credit_ms": "join to credit ms", "leave_ms": "leave ms",
    "batch_records": "records a batch", "shared_percent": "same order in batch %", "repeats_percent": "known repeats %",
    "hot_percent": "HOT %", "wal_bytes": "WAL B", "others_cores": "others' cores", "slow_per_s": "slow partner/s",
    "recopies_per_s": "re-copies/s", "copies_per_deferred": "copies a deferred record",
    "of_ceiling_percent": "% of ceiling", "repeat_us": "a repeat µs",
    "redis_cost_us": "Redis adds µs", "instructions": "instructions", "cpu_us": "CPU µs", "fill_per_s": "fill/s",
}
# Leaving takes some of every point; it is shown where it is what was measured. A repeat that PostgreSQL absorbs writes
# nothing, as one that was merged with its neighbours; in W3 the two cannot be told apart.
HIDDEN = {"leave_ms": lambda section: section != "start", "shared_percent": lambda section: section == "W3"}

TITLES = {
    "W1": "W1: lifecycle",
    "W2": "W2: all delivered",
    "W3": "W3: duplicate storm",
    "W4": "W4: steady rate, record timestamp to PostgreSQL commit",
    "W5": "W5: backlog with one slow partner",
    "file": "Events from a file",
    "start": "Start, rest, leave",
    "profile": "Stages: what an event costs inside the worker",
    "workers": "By workers (threads with a connection each)",
    "batch": "By batch.max",
    "partitions": "By partitions",
    "replicas": "By replicas",
    "backlog": "By length of the backlog",
    "table": "By size of the table: 100,000 orders live, the rest closed",
    "checkpoint": "The same right behind a checkpoint",
}

CEILINGS = ("A ceiling is that of a program in the worker's place: driver µs are its CPU from the first record on, the "
    "servers' is from its start. The ledger write leaves out repeats and bad records, which count in its events/s.")
FIRST_SECONDS = "The first seconds of a backlog of W1."
HOW = {
    **dict.fromkeys(("W1", "W2", "file"), CEILINGS),
    "W3": "The four take turns, and costs are of two runs of one turn. A repeat's cost is what all but the broker took "
        "beyond the first-time records of its run, which cost what those of the stream without repeats do. What Redis "
        "adds to an event is the same sum with it, less that without.",
    "W4": "An open loop: a record is dated by the millisecond in which it was due, so what the generator came late by "
        "is in the latency. It is of what a transaction took; rate and CPU are of all that was settled. Before it the "
        "broker is warmed up by 30 s of 5,000 events/s, and of each run the first 3 s are left out, CPU included.",
    "W5": "events/s and CPU until the topic was read to its end. From there on, while only deferred records are read: "
        "what the ledger took of the slow partner, and re-copies, deferrals of what had been deferred before. Copies of a "
        "deferred record: so far.",
    "profile": "Instructions by callgrind from a small run, in which nothing of the start is counted, and what "
        "libraries and common/ do counts for the stage that calls them. CPU is that of a run, the start included: by "
        "stage as perf's samples of the CPU clock divide it, which do not say who called libc and the kernel, by "
        "thread as /proc does.",
    **dict.fromkeys(("workers", "batch", "partitions", "backlog"), FIRST_SECONDS),
    "replicas": f"{FIRST_SECONDS} Measured, CPU included, from when every replica has partitions; heartbeats come "
        "every 300 ms, so that the group forms soon.",
    "table": "The sizes take turns, each turn with a stream of its own: lifecycle as W1 with 100,000 orders alive, "
        "which the smallest ledger meets without an order. Each ledger has the accounts of all customers, so that only "
        "orders differ. Measured, CPU included, from when 60 % of the stream is settled and nearly all live orders are "
        "there, in the middle between two checkpoints: none comes from the loading on. Loaded orders lie 28 in a page, "
        "as the worker leaves them.",
    "checkpoint": "The largest table once more. Behind a checkpoint PostgreSQL logs each page as a whole that is "
        "written for the first time, and new orders are written all over their index: until each of its pages has had "
        "its turn, that comes on top.",
}


def _number(value, name):
    return f"{value:,.{UNITS[name][1]}f}"


def _cell(figure, name):
    text = _number(figure["median"], name)
    if len(figure["runs"]) > 1:
        text += f" ({_number(figure['min'], name)}–{_number(figure['max'], name)})"
    return text


def _shown(section, name):
    return not HIDDEN.get(name, lambda _: False)(section)


def line(row):
    """One row as it is measured."""
    figures = row.as_json()["figures"]
    parts = [f"{SHORT[name]} {_cell(figure, name)}" for name, figure in figures.items() if _shown(row.section, name)]
    return f"{row.section} {row.what}: " + ", ".join(parts)


def _settings(settings):
    return ", ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
        for name, value in settings.items() if value != "–")


COLUMNS = ("events_per_s", "credited_per_s", "worker_us", "redis_us", "kafka_us", "postgres_us", "peak_mb", "p50_ms",
    "p99_ms")


def table(results, goals):
    """The one table: common figures in columns, the others behind them."""
    about = results.about
    out = [about["machine"], ", ".join((about["worker"], about["kafka"], about["redis"], about["postgresql"])),
        "durability: " + ", ".join(f"{name} {value}" for name, value in about["postgresql_settings"].items()) +
        f"; broker: {about['broker_settings']}; Redis: {about['redis_settings']}",
        *(f"{name}: {text}" for name, text in about["workloads"].items()),
        "medians of the runs; µs are of CPU an event", ""]
    head = ["", *(SHORT[name] for name in COLUMNS), "other figures", "settings"]
    rows = []
    for row in results.rows:
        figures = row.as_json()["figures"]
        others = ", ".join(f"{SHORT[name]} {_number(figure['median'], name)}" for name, figure in figures.items()
            if name not in COLUMNS and _shown(row.section, name))
        rows.append([f"{row.section} {row.what}", *(row.text(name, spread=False) for name in COLUMNS), others,
            _settings(row.settings)])
    widths = [max(len(cells[i]) for cells in [head, *rows]) for i in range(len(head))]
    for cells in [head, *rows]:
        out.append("  ".join(cell.ljust(width) if i in (0, len(head) - 2) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells[:-1], widths))) + "  " + cells[-1])
    out.append("")
    for goal in goals:
        out.append(f"{'reached' if goal.met else 'MISSED ':<8} {goal.text}: {goal.reached} ({goal.reach})")
    return "\n".join([*out, *results.notes])


# BENCHMARKS.md


def _markdown_table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cells) + " |" for cells in rows]


def _section(name, rows, streams):
    columns = [figure for figure in SHORT if any(figure in row["figures"] for row in rows) and _shown(name, figure)]
    common = {key: value for key, value in rows[0]["settings"].items()
        if all(row["settings"].get(key) == value for row in rows) and value != "–"}
    varying = [key for key in rows[0]["settings"] if key not in common and
        any(row["settings"].get(key, "–") != "–" for row in rows) and
        not all(str(row["settings"].get(key)) == row["what"].replace(",", "") for row in rows)]
    head = ["", *varying, *(SHORT[figure] for figure in columns)]
    body = [[row["what"], *(str(row["settings"].get(key, "–")) for key in varying),
        *(_cell(row["figures"][figure], figure) if figure in row["figures"] else "–" for figure in columns)]
        for row in rows]
    out = [f"## {TITLES[name]}", ""]
    out += [f"{text}.\n" for text in (streams.get(name), HOW.get(name, "").rstrip(".")) if text]
    if common:
        out += [_settings(common) + ".", ""]
    return [*out, *_markdown_table(head, body), ""]


def _markdown(measured, plots):
    about = measured["about"]
    settings = ", ".join(f"`{name}` {value}" for name, value in about["postgresql_settings"].items())
    out = [
        "# Benchmarks", "",
        f"Made by `{about['command']} PUBLISH=1` on {about['date']}, from the figures of that run alone. Worker, "
        "broker, Redis and PostgreSQL share the machine. A figure is the median of its runs, least and most in "
        "brackets. µs are of CPU an event, counted for all processes and threads of the one named; that is from the "
        "start of the worker on, where a section does not say otherwise. MB are 10⁶ bytes.", "",
        *_markdown_table(["", ""], [
            ["machine", about["machine"]],
            ["worker", about["worker"]],
            ["Kafka", f"{about['kafka']}; {about['broker_settings']}"],
            ["PostgreSQL", f"{about['postgresql']}; {settings}"],
            ["Redis", f"{about['redis']}; {about['redis_settings']}"],
            ["seed", str(about["seed"])]]), "",
    ]
    for path, text in plots:
        out += [f"![{text}]({path})", ""]
    if measured["goals"]:
        out += ["## Reached", "", *_markdown_table(["", "to reach", "reached", ""], [
            [goal["text"], goal["reach"], goal["reached"], "yes" if goal["met"] else "**no**"]
            for goal in measured["goals"]]), ""]
    for name in TITLES:
        rows = [row for row in measured["rows"] if row["section"] == name]
        if rows:
            out += _section(name, rows, about["workloads"])
    if measured["notes"]:
        out += ["## Notes", "", *(f"- {note}" for note in measured["notes"]), ""]
    return "\n".join(out)


def publish(json_path, folder):
    """Writes BENCHMARKS.md into `folder` and the plots below it, at tests/bench/. Returns what was written."""
    with open(json_path, encoding="utf-8") as data:
        measured = json.load(data)
    written, plots = [], []
    os.makedirs(os.path.join(folder, "tests", "bench"), exist_ok=True)
    for name, text, svg in plot.draw(measured["rows"]):
        path = os.path.join("tests", "bench", name)
        plots.append((path, text))
        written.append(_write(os.path.join(folder, path), svg))
    return [_write(os.path.join(folder, "BENCHMARKS.md"), _markdown(measured, plots)), *written]


def _write(path, text):
    with open(path, "w", encoding="utf-8") as out:
        out.write(text.rstrip("\n") + "\n")
    return path
