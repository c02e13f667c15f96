"""Reads the text format of /metrics."""

import re

SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
PREFIX = "delivery_worker_"


def unescape(text):
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), text)


class Exposition:
    """One scrape. Names are given without the prefix that all of the worker's metrics share."""

    def __init__(self, text):
        self.text = text
        self.samples = {}
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            match = SAMPLE.match(line)
            if not match:
                raise ValueError(f"not a sample: {line!r}")
            labels = {name: unescape(value) for name, value in LABEL.findall(match[2] or "")}
            self.samples.setdefault(match[1].removeprefix(PREFIX), []).append((labels, float(match[3])))

    def series(self, name, **labels):
        """[(labels, value)] of a metric, those that carry `labels`."""
        return [(have, value) for have, value in self.samples.get(name, [])
            if all(have.get(key) == wanted for key, wanted in labels.items())]

    def value(self, name, **labels):
        """The sum over the series that match; 0 when there is none."""
        return sum(value for _, value in self.series(name, **labels))

    def has(self, name, **labels):
        return bool(self.series(name, **labels))

    def is_zero(self, name, **labels):
        """Whether it is known to be 0: a metric that is not there is not."""
        return self.has(name, **labels) and not self.value(name, **labels)

    def by(self, name, label):
        """{value of `label`: sum} of a metric."""
        sums = {}
        for have, value in self.series(name):
            sums[have.get(label)] = sums.get(have.get(label), 0) + value
        return sums

    def conservation(self):
        """(consumed, settled + in flight): equal at every scrape [I7]."""
        settled = self.value("records_settled_total") + self.value("records_in_flight")
        return self.value("records_consumed_total"), settled

    def buckets(self, name, **labels):
        """Cumulative [(upper bound, count)] of a histogram, rising."""
        sums = {}
        for have, value in self.series(f"{name}_bucket", **labels):
            bound = float(have["le"])
            sums[bound] = sums.get(bound, 0) + value
        return sorted(sums.items())

    def quantile(self, name, q, **labels):
        """Prometheus' estimate: linear within the bucket; None without observations."""
        return quantile(self.buckets(name, **labels), q)


def quantile(buckets, q):
    if not buckets or not buckets[-1][1]:
        return None
    rank = q * buckets[-1][1]
    below_bound, below_count = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf") or count == below_count:
                return below_bound
            return below_bound + (bound - below_bound) * (rank - below_count) / (count - below_count)
        below_bound, below_count = bound, count
    return below_bound
