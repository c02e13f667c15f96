"""What was measured: rows of figures, each the values of its runs."""

import statistics

# name: (unit, decimals) of the figures that rows may have, in the order in which tables show them.
UNITS = {
    "events_per_s": ("events/s", 0),
    "credited_per_s": ("credited orders/s", 0),
    "worker_us": ("µs of CPU an event, worker", 2),
    "redis_us": ("µs of CPU an event, Redis", 2),
    "kafka_us": ("µs of CPU an event, broker", 2),
    "postgres_us": ("µs of CPU an event, PostgreSQL", 2),
    "outside_us": ("µs of CPU an event, worker, Redis and broker", 2),
    "driver_us": ("µs of CPU an event, driver", 2),
    "peak_mb": ("MB resident at most, worker", 1),
    "idle_mb": ("MB resident when idle, worker", 1),
    "p50_ms": ("ms, P50", 2),
    "p99_ms": ("ms, P99", 2),
    "late_p99_ms": ("ms that 99 % of the records were late by at most", 0),
    "late_max_ms": ("ms that a record was late by at most", 0),
    "first_poll_ms": ("ms, start to first poll", 0),
    "first_credit_ms": ("ms, start to first credit", 0),
    "join_to_credit_ms": ("ms, join to first credit", 0),
    "leave_ms": ("ms, SIGTERM to exit", 0),
    "batch_records": ("records a batch, mean", 0),
    "shared_percent": ("% of the records, at the most, in one batch with another of their order", 1),
    "repeats_percent": ("% of the records known as repeats", 1),
    "hot_percent": ("% of the updates HOT", 1),
    "wal_bytes": ("bytes of WAL an event", 0),
    "others_cores": ("cores that other processes took", 2),
    "fill_per_s": ("events/s, filling the topic", 0),
    "slow_per_s": ("events/s let through of the slow partner", 0),
    "recopies_per_s": ("re-copies/s: deferrals of what was deferred", 0),
    "copies_per_deferred": ("copies of a deferred record", 2),
    "of_ceiling_percent": ("% of the ceiling", 0),
    "repeat_us": ("µs of CPU, all but the broker, a repeat", 1),
    "redis_cost_us": ("µs of CPU, all but the broker, Redis adds to an event", 2),
    "instructions": ("instructions an event", 0),
    "cpu_us": ("µs of CPU an event", 2),
}


class Row:
    def __init__(self, section, what, settings, runs):
        """`runs`: [{name: value}]; a name that a run lacks is not counted there."""
        self.section, self.what, self.settings = section, what, settings
        self.figures = {}
        for name in [name for name in UNITS if any(run.get(name) is not None for run in runs)]:
            self.figures[name] = [run[name] for run in runs if run.get(name) is not None]
        for run in runs:
            unknown = set(run) - set(UNITS)
            assert not unknown, unknown

    def median(self, name):
        values = self.figures.get(name)
        return statistics.median(values) if values else None

    def text(self, name, spread=True):
        """Median, and what lies around it when there were several runs."""
        values = self.figures.get(name)
        if not values:
            return "–"
        decimals = UNITS[name][1]
        out = f"{statistics.median(values):,.{decimals}f}"
        if spread and len(values) > 1:
            out += f" ({min(values):,.{decimals}f}–{max(values):,.{decimals}f})"
        return out

    def as_json(self):
        return {"section": self.section, "what": self.what, "settings": self.settings,
            "figures": {name: {"unit": UNITS[name][0], "median": self.median(name), "min": min(values),
                "max": max(values), "runs": values} for name, values in self.figures.items() if values}}


class Results:
    def __init__(self, about, show=None):
        self.about = about  # machine, versions, durability, command
        self.show = show  # called with each row as it is added
        self.rows = []
        self.notes = []  # what was left out, and why

    def add(self, section, what, settings, runs):
        row = Row(section, what, settings, runs)
        self.rows.append(row)
        if self.show:
            self.show(row)
        return row

    def note(self, text):
        self.notes.append(text)
        print(f"   {text}", flush=True)

    def find(self, section, what):
        for row in self.rows:
            if row.section == section and row.what == what:
                return row
        return None

    def median(self, section, what, name):
        row = self.find(section, what)
        return row.median(name) if row else None
