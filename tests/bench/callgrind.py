"""
Reads a profile of callgrind and adds instructions up by stage of a record's way.

The stage of an instruction is that of the file of the worker's function that it is in; what such a function calls of
libraries, of common/ and of worker/observe counts for it, calls back into the worker taken off. What no function of
the worker asked for is the client libraries' own threads'.
"""

import re

# The steps of HACKING.md by file; the first that matches. A function's name goes before its file's.
FUNCTIONS = {"batch_digest": "Redis", "event_digest": "Redis"}
STAGES = (
    ("poll", r"worker/kafka/kafka_(consumer|assignment|pending)\.c|worker/pipeline/consumer\.c"),
    ("decode", r"schemas/"),
    ("dispatch", r"worker/pipeline/(intake|dispatch|record|tracker|partition|batch|pool)\.c"),
    ("Redis", r"worker/gate/"),
    ("decide", r"worker/ledger/(ledger|decision|facts|posting|rules|rules_store)\.c"),
    ("settle", r"worker/pipeline/(settle|keeper|rebalance|pipeline)\.c|worker/ledger/(store_progress|start_rule)\.c"),
    ("encode", r"worker/ledger/(store|store_(begin|commit)|pg_params)\.c"),
    ("libpq", r"worker/ledger/pg"),
    ("copies", r"worker/pipeline/(outbox|copy)\.c|worker/kafka/kafka_producer\.c"),
)
REST = "client libraries' threads, metrics, lag, rest"
ORDER = (*(stage for stage, _ in STAGES), REST)
# Where threads and commands begin: what these call is no call back.
ROOTS = re.compile(r"common/thread\.c|worker/main\.c|worker/cli/|worker/observe/")


def stage_of(function, path):
    if function in FUNCTIONS:
        return FUNCTIONS[function]
    for stage, pattern in STAGES:
        if re.search(pattern, path):
            return stage
    return None


class Profile:
    def __init__(self, path):
        self.self_cost = {}  # (function, file): instructions
        self.calls = {}  # (caller, callee): instructions, what the callee called included
        self.total = 0
        self._names = {}
        with open(path, encoding="utf-8", errors="replace") as lines:
            self._read(lines)
        self.files = {function: file for function, file in self.self_cost if file}

    def _name(self, kind, text):
        """Names are written once, as `(number) name`, and `(number)` from then on."""
        number, _, name = text.partition(" ")
        if not number.startswith("("):
            return text
        if name:
            self._names[kind, number] = name
        return self._names.get((kind, number), "")

    def _read(self, lines):
        file = callee_file = ""
        function = callee = None
        calling = False
        for line in lines:
            line = line.rstrip("\n")
            key, equals, value = line.partition("=")
            if equals and key == "fn":
                function = (self._name("fn", value), file)
            elif equals and key == "fl":
                file = callee_file = self._name("fl", value)
            elif equals and key in ("fi", "fe", "ob", "cob"):
                self._name("fl" if key[0] == "f" else "ob", value)
            elif equals and key in ("cfi", "cfl"):
                callee_file = self._name("fl", value)
            elif equals and key == "cfn":
                callee = (self._name("fn", value), callee_file)
            elif equals and key == "calls":
                calling = True
            elif line and (line[0].isdigit() or line[0] in "+-*"):
                words = line.split()
                cost = int(words[1]) if len(words) > 1 else 0
                if calling:
                    self.calls[function, callee] = self.calls.get((function, callee), 0) + cost
                    calling, callee_file = False, file
                else:
                    self.self_cost[function] = self.self_cost.get(function, 0) + cost
                    self.total += cost

    def by_stage(self):
        """{stage: instructions}, which add up to the total."""
        sums = dict.fromkeys(ORDER, 0)
        for function, cost in self.self_cost.items():
            stage = stage_of(*function)
            if stage:
                sums[stage] += cost
        for (caller, callee), cost in self.calls.items():
            ours, theirs = stage_of(*caller), stage_of(*callee)
            if ours and not theirs:
                sums[ours] += cost
            elif theirs and not ours and not ROOTS.search(caller[1]):
                sums[theirs] -= cost
        sums[REST] = self.total - sum(sums.values())
        return sums
