"""What is to be reached, on two cores shared by worker, broker, Redis and PostgreSQL, and what was."""

from dataclasses import dataclass


@dataclass
class Goal:
    text: str
    reach: str
    reached: str
    met: bool


def _least(text, value, bound, unit, decimals=0):
    if value is None:
        return None
    return Goal(text, f"≥ {bound:,} {unit}", f"{value:,.{decimals}f} {unit}", value >= bound)


def _most(text, value, bound, unit, decimals=1):
    if value is None:
        return None
    return Goal(text, f"≤ {bound:,g} {unit}", f"{value:,.{decimals}f} {unit}", value <= bound)


def _repeats(results):
    caught = results.median("W3", "50 % repeats, Redis on", "repeat_us")
    absorbed = results.median("W3", "50 % repeats, Redis off", "repeat_us")
    if caught is None or absorbed is None:
        return None
    return Goal("a repeat that Redis catches, CPU of all but the broker",
        f"< {absorbed:.1f} µs, one that PostgreSQL absorbs", f"{caught:.1f} µs", caught < absorbed)


def _flat(results):
    rates = [row.median("events_per_s") for row in results.rows if row.section == "table"]
    if len(rates) < 2:
        return None
    change = max(abs(rate / rates[0] - 1) for rate in rates) * 100
    return Goal("throughput against table size", "± 15 % of that with the smallest", f"{change:.0f} % off at most",
        change <= 15)


def _slowest(results, what, name):
    row = results.find("start", what)
    return max(row.figures[name]) if row and row.figures.get(name) else None


def judge(results):
    """The goals that were measured."""
    w1, w4 = ("W1", "end to end"), "W4"
    got = results.median
    long_backlog = next((row for row in results.rows if row.section == "backlog" and row.what == "10,000,000"), None)
    goals = [
        _least("W1 end to end", got(*w1, "events_per_s"), 65000, "events/s"),
        _most("W1, CPU outside PostgreSQL (worker, Redis, broker) an event", got(*w1, "outside_us"), 8, "µs"),
        _least("W2 end to end", got("W2", "end to end", "credited_per_s"), 35000, "credited orders/s"),
        _most("worker's own CPU an event, W1, everything included", got(*w1, "worker_us"), 4.5, "µs", 2),
        _least("consume and decode alone, one core", got("W1", "ceiling: consume and decode, one core", "events_per_s"),
            500000, "events/s"),
        _most("W3, CPU that Redis adds to an event without repeats",
            got("W3", "0 % repeats, Redis on", "redis_cost_us"), 1.5, "µs", 2),
        _repeats(results),
        _most("latency at 1,000/s, P50", got(w4, "1,000 events/s", "p50_ms"), 2, "ms"),
        _most("latency at 1,000/s, P99", got(w4, "1,000 events/s", "p99_ms"), 8, "ms"),
        _most("latency at 5,000/s, P50", got(w4, "5,000 events/s", "p50_ms"), 3, "ms"),
        _most("latency at 5,000/s, P99", got(w4, "5,000 events/s", "p99_ms"), 12, "ms"),
        _most("memory when idle", got("start", "at rest", "idle_mb"), 12, "MB"),
        _most("memory at most, W1 at full speed", got(*w1, "peak_mb"), 64, "MB"),
        _most("the same with 10,000,000 records of backlog", long_backlog and long_backlog.median("peak_mb"), 64, "MB"),
        _most("start to first poll, the slowest", _slowest(results, "at rest", "first_poll_ms"), 100, "ms", 0),
        _most("join to first credit, the slowest", _slowest(results, "into a backlog", "join_to_credit_ms"), 1000, "ms",
            0),
        _most("leaving on SIGTERM under W1, the slowest", _slowest(results, "leaving under load", "leave_ms"), 1000,
            "ms", 0),
        _flat(results),
    ]
    return [goal for goal in goals if goal]
