"""
DeliveryEvent v1, decoded from the contract's text (sections 2 and 5) with nothing but Python's json: either an Event,
or the set of all faults that the record has, any of whose codes is right.
"""

import dataclasses
import datetime
import json
import re

BYTES_MAX, DEPTH_MAX, INTEGER_MAX = 64 * 1024, 8, 2 ** 53 - 1
FUTURE_MAX_US = 5 * 60 * 10 ** 6
RANKS = {"created": 0, "confirmed": 10, "assigned": 20, "at_pickup": 30, "picked_up": 40, "in_transit": 50,
    "at_dropoff": 60, "attempted": 70, "delivered": 80, "failed": 85, "cancelled": 90, "returned": 100}
DECISIVE = 80

ID = re.compile(r"[A-Za-z0-9._:-]*\Z")
CURRENCY = re.compile(r"[A-Z]{3}\Z")
TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))\Z")

# name: (shortest, longest, only the alphabet of ids)
TEXTS = {"order_id": (1, 64, True), "customer_id": (1, 64, True), "partner_id": (1, 64, True),
    "driver_id": (1, 64, False), "event_id": (1, 128, False), "reason": (0, 128, False), "source": (0, 128, False)}
INTEGERS = {"amount_minor": (0, INTEGER_MAX), "refunded_total_minor": (0, INTEGER_MAX), "attempt": (1, 99)}
MEMBERS = {*TEXTS, *INTEGERS, "status", "timestamp", "schema_version", "currency"}

# The attributes of CloudEvents that stand in for members.
ATTRIBUTES = {"ce_id": "event_id", "ce_source": "source"}

CLASSES = {"malformed": ("tombstone", "too_large", "not_json", "invalid_utf8", "too_deep", "duplicate_member",
        "not_object"),
    "invalid": ("missing_field", "wrong_type", "bad_format", "out_of_range", "unknown_status", "unknown_field",
        "unsupported_version", "envelope_mismatch"),
    "conflict": ("order_conflict",), "database": ("database_rejected",)}
CLASS_OF = {code: name for name, codes in CLASSES.items() for code in codes}


@dataclasses.dataclass(slots=True)
class Event:
    order_id: str
    rank: int
    at_us: int
    customer_id: str | None
    partner_id: str | None
    currency: str | None
    amount_minor: int | None
    refunded_minor: int
    driver_id: str | None


def decode(value, headers, timestamp_ms, refuse_unknown=False):
    """
    Returns (Event, empty set) or (None, set of codes). `timestamp_ms`: the record's; below 0 it has none. For one
    thread at a time.
    """
    if value is None:
        return None, {"tombstone"}
    faults = {"too_large"} if len(value) > BYTES_MAX else set()
    members = _parse(value, faults)
    if members is not None:
        at_us = _check_members(members, timestamp_ms, refuse_unknown, faults)
        _check_envelope(members, headers, faults)
    if faults:
        return None, faults
    return Event(members["order_id"], RANKS[members["status"]], at_us, members.get("customer_id"),
        members.get("partner_id"), members.get("currency"), members.get("amount_minor"),
        members.get("refunded_total_minor", 0), members.get("driver_id")), faults


# JSON


class _Beyond:
    """In place of a number that no int64 or double holds. Its fault is noted already."""


class _Refused(Exception):
    pass


def _parse(value, faults):
    """The outer object's members, or None when there is no telling; notes what is wrong with the text."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        faults.add("invalid_utf8")
        text = value.decode("utf-8", "replace")
    if not text.strip(" \t\n\r") or text.startswith("\ufeff") or "\0" in text:
        faults.add("not_json")
    if _too_deep(text):
        faults.add("too_deep")
    elif "\0" not in text:
        root = READER.read(text, faults)
        if isinstance(root, dict):
            return root
        if root is not _Beyond:
            faults.add("not_object")
            return None
    _scan(text, faults)
    return None


class _Reader:
    """Python's json with what the contract adds; one for all texts, since making one takes longer than reading one."""

    def __init__(self):
        self.json = json.JSONDecoder(parse_int=self.integer, parse_float=self.real, parse_constant=self.constant,
            object_pairs_hook=self.pairs)
        self.faults = set()
        self.escaped = False

    def read(self, text, faults):
        """Returns: what the text says; _Beyond when it is not JSON."""
        # U+0000 and halves of surrogate pairs can only come from escapes.
        self.faults, self.escaped = faults, "\\u" in text
        try:
            root = self.json.decode(text.removeprefix("\ufeff"))
        except (json.JSONDecodeError, _Refused):
            faults.add("not_json")
            return _Beyond
        if self.escaped and _any_bad_text(root):
            faults.add("not_json")
        return root

    def integer(self, digits):
        if len(digits) > 20 or not -2 ** 63 <= int(digits) < 2 ** 63:
            self.faults.add("out_of_range")
            return _Beyond
        return int(digits)

    def real(self, digits):
        number = float(digits)
        if number in (float("inf"), float("-inf")):
            self.faults.add("out_of_range")
            return _Beyond
        return number

    def constant(self, _):
        raise _Refused

    def pairs(self, items):
        found = dict(items)
        if len(found) != len(items):
            self.faults.add("duplicate_member")
            # Values that are overwritten here are seen nowhere else.
            if self.escaped and _any_bad_text([value for _, value in items]):
                self.faults.add("not_json")
        if self.escaped and any(map(_bad_text, found)):
            self.faults.add("not_json")
        return found


READER = _Reader()


def _bad_text(text):
    """U+0000 or half of a surrogate pair."""
    return any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text) if not text.isascii() or "\0" in text else False


def _any_bad_text(value):
    if isinstance(value, str):
        return _bad_text(value)
    if isinstance(value, dict):
        return any(map(_any_bad_text, value.values()))
    return isinstance(value, list) and any(map(_any_bad_text, value))


STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.S)


def _too_deep(text):
    """Brackets outside of strings, whether or not the rest is JSON."""
    if text.count("{") + text.count("[") <= DEPTH_MAX:
        return False
    depth = 0
    for c in STRING.sub("", text):
        if c in "{[":
            depth += 1
            if depth > DEPTH_MAX:
                return True
        elif c in "}]":
            depth -= 1
    return False


TOKEN = re.compile(r'[ \t\n\r]*(?:("(?:[^"\\]|\\.)*"|"(?:[^"\\]|\\.)*$)|(-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|'
    r"([{}\[\]:,])|(true|false|null))", re.S)


def _scan(text, faults):
    """Faults in a text that the parser gave up on: a reader that goes from left to right may meet them before."""
    names, at, before = [], 0, None
    while token := TOKEN.match(text, at):
        at = token.end()
        string, number, sign, _ = token.groups()
        if string and names and names[-1] is not None and before in ("{", ","):
            if string in names[-1]:
                faults.add("duplicate_member")
            names[-1].add(string)
        elif number:
            whole = re.fullmatch(r"-?[0-9]+", number)
            if whole and (len(number) > 20 or not -2 ** 63 <= int(number) < 2 ** 63):
                faults.add("out_of_range")
            elif not whole and float(number) in (float("inf"), float("-inf")):
                faults.add("out_of_range")
        elif sign and sign in "{[":
            names.append(set() if sign == "{" else None)
        elif sign and sign in "}]" and names:
            names.pop()
        before = sign


# members


def _check_members(members, timestamp_ms, refuse_unknown, faults):
    """Returns the timestamp, as far as it can be read."""
    at_us = None
    if refuse_unknown and not MEMBERS.issuperset(members):
        faults.add("unknown_field")
    for name in ("order_id", "status", "timestamp"):
        if name not in members:
            faults.add("missing_field")
    if ("amount_minor" in members) != ("currency" in members):
        faults.add("missing_field")
    for name, value in members.items():
        if value is _Beyond or name not in MEMBERS or (name == "driver_id" and value is None):
            continue
        if name in INTEGERS or name == "schema_version":
            _check_integer(name, value, faults)
        elif type(value) is not str:
            faults.add("wrong_type")
        elif name in TEXTS:
            _check_text(name, value, faults)
        elif name == "status":
            if value not in RANKS:
                faults.add("unknown_status")
        elif name == "timestamp":
            at_us = _check_time(value, timestamp_ms, faults)
        elif not CURRENCY.match(value) or value == "PTS":
            faults.add("bad_format")
    return at_us


def _check_integer(name, value, faults):
    if type(value) is not int:
        faults.add("wrong_type")
    elif name == "schema_version":
        if value != 1:
            faults.add("unsupported_version")
    elif not INTEGERS[name][0] <= value <= INTEGERS[name][1]:
        faults.add("out_of_range")


def _check_text(name, value, faults):
    shortest, longest, is_id = TEXTS[name]
    if is_id and not ID.match(value):
        faults.add("bad_format")
    if not shortest <= len(value) <= longest:
        faults.add("out_of_range")


def _check_time(text, timestamp_ms, faults):
    at_us = parse_time_us(text)
    if at_us is None:
        faults.add("bad_format")
    elif at_us < EARLIEST_US or (timestamp_ms >= 0 and at_us > timestamp_ms * 1000 + FUTURE_MAX_US):
        faults.add("out_of_range")
    return at_us


def parse_time_us(text):
    """Microseconds since the Unix epoch; None when the text is no such time."""
    found = TIME.match(text)
    if not found:
        return None
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = found.groups()[6:]
    try:
        # Python's calendar begins with the year 1; 0 and 400 are alike.
        days = datetime.date(year or 400, month, day).toordinal() - (0 if year else 146097)
    except ValueError:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    seconds = (days - datetime.date(1970, 1, 1).toordinal()) * 86400 + hour * 3600 + minute * 60 + second
    if sign:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            return None
        offset_s = int(offset_hours) * 3600 + int(offset_minutes) * 60
        seconds += offset_s if sign == "-" else -offset_s
    return seconds * 10 ** 6 + int(((fraction or "") + "000000")[:6])


EARLIEST_US = parse_time_us("2000-01-01T00:00:00Z")


def _check_envelope(members, headers, faults):
    for header, member in ATTRIBUTES.items():
        given = [value for name, value in headers if name == header]
        if not given or given[-1] is None:
            continue
        try:
            value = given[-1].decode("utf-8")
        except UnicodeDecodeError:
            faults.add("invalid_utf8")
            continue
        if "\0" in value:
            faults.add("not_json")
        _check_text(member, value, faults)
        if member in members and members[member] != value:
            faults.add("envelope_mismatch")
