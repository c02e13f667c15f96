"""JSON texts that are nearly events: bytes changed at random, by a seed."""

# What JSON and the decoder's bounds turn on.
PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"0", b"-", b".", b"e", b"E9", b" ", b"\t",
		  b"\x00", b"\x01", b"\x1f", b"\x7f", b"\xff", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80",
		  b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", "é".encode(), "🚀".encode(), b"\\u0000", b"\\ud800",
		  b"\\udc00", b"\\ud83d\\ude80", b"\\u00e9", b"\\x", b"\\n", b"null", b"true", b"NaN", b"Infinity",
		  b"-Infinity", b"1e309", b"9223372036854775807", b"9223372036854775808", b"01", b"1.", b"+1", b"0x1",
		  b"'", b"/*x*/", b"//", b'"order_id":"o",', b'"x":1,', b'"x":[[[[[[[[[0]]]]]]]]],', b"{}", b"[]"]


def change(rng, text, others):
	"""One change."""
	at = rng.randrange(len(text) + 1)
	end = min(len(text), at + rng.choice([1, 1, 2, 5, 20]))
	kind = rng.randrange(8)
	if kind == 0:
		return text[:at] + rng.choice(PIECES) + text[at:]
	if kind == 1:
		return text[:at] + rng.choice(PIECES) + text[end:]
	if kind == 2:
		return text[:at] + text[end:]
	if kind == 3:
		return text[:at] + text[at:end] * 2 + text[end:]
	if kind == 4 and at < len(text):
		return text[:at] + bytes([text[at] ^ 1 << rng.randrange(8)]) + text[at + 1:]
	if kind == 5:
		return text[:at]
	if kind == 6:
		other = rng.choice(others)
		return text[:at] + other[rng.randrange(len(other) + 1):]
	return text[:at] + bytes([rng.randrange(256)]) + text[at:]


def mutate(rng, texts, count):
	"""`count` of them, without a newline: each is a line."""
	made = []
	while len(made) < count:
		text = rng.choice(texts)
		for _ in range(rng.choice([1, 1, 1, 2, 3])):
			text = change(rng, text, texts)
		if b"\n" not in text:
			made.append(text)
	return made
