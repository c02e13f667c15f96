/* What is asked of JSON without parsing it. Input: a byte for sizes and offsets, then the text. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/json_reading.h"

#include "schemas/json_scan.h"

static bool is_part(struct slice part, struct slice text)
{
	return !slice_present(part) || (part.data >= text.data && part.data + part.len <= text.data + text.len);
}

/* What was not cut reads back as the text. */
static void check_escape(struct slice text, size_t size)
{
	char *out = malloc(size + 3);
	size_t len = json_escape(text, out + 1, size);

	fuzz_check_line(out + 1, size, true);
	ENSURE(strlen(out + 1) == len);
	out[0] = out[len + 1] = '"';
	json_t *meant = json_stringn(text.data ? text.data : "", text.len); /* NULL: not UTF-8 */
	json_t *read = json_loadb(out, len + 2, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	ENSURE(read && json_is_string(read));
	bool cut = len >= 3 && memcmp(out + len - 2, "...", 3) == 0;
	ENSURE(!meant || cut || json_equal(meant, read));
	json_decref(meant);
	json_decref(read);
	free(out);
}

/* In what parses: all members of the outermost object, and nothing else. */
static void check_names(struct slice text, const json_t *root)
{
	struct slice name;
	size_t count = 0;

	for (size_t at = 0, before = 0; json_next_name(text, &at, &name); before = at, count++) {
		ENSURE(at > before && is_part(name, text));
		if (root && !memchr(name.data, '\\', name.len))
			ENSURE(json_object_getn(root, name.data, name.len));
	}
	ENSURE(!root || count >= json_object_size(root));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct slice text = {(const char *)data + 1, size - 1};
	struct json_place place = json_place_at(text, data[0]);
	ENSURE(is_part(place.last_string, text) && is_part(place.member, text));
	check_escape(text, data[0] % 64 + 4u);
	check_escape(text, 6 * size + 4);
	json_t *root = json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL);
	check_names(text, root);
	int depth = root ? json_reading_depth(root) : 0;
	for (int most = 0; root && most < 12; most++)
		ENSURE(json_depth_within(text, most) == (depth <= most));
	json_decref(root);
	return 0;
}
