/* Whatever the fast reader takes, jansson takes too, into the same members. */
#include "schemas/event_fast.h"

#include "common/prng.h"
#include "schemas/event_json.h"
#include "schemas/json_scan.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static const char usual[] =
	"{\"event_id\":\"2e7a.created\",\"order_id\":\"o-1\",\"customer_id\":\"c-1\",\"partner_id\":\"p-1\","
	"\"amount_minor\":7289,\"currency\":\"BRL\",\"status\":\"created\",\"timestamp\":\"2016-09-04T21:15:19-03:00\","
	"\"driver_id\":null,\"schema_version\":1,\"reason\":\"S\xc3\xa3o Paulo \xf0\x9f\x9a\x80\"}";

static const struct {
	const char *text;
	bool taken;
} shapes[] = {
	{usual, true},
	{" \t\r\n{ \"order_id\" : \"o\" , \"attempt\" : 7 } \n", true},
	{"{\"order_id\":\"\"}", true},
	{"{\"amount_minor\":0}", true},
	{"{\"amount_minor\":999999999999999999}", true},
	{"{\"amount_minor\":true,\"currency\":false,\"status\":null}", true}, /* the rules refuse it */
	{"{\"note\":\"x\",\"flag\":true,\"nothing\":null,\"count\":12}", true},
	{"{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1}", true},
	{"{\"\":1}", true},
	{"{\"reason\":\"\x7f\"}", true},
	{"{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1}", false},
	{"", false},
	{"{", false},
	{"{}", false}, /* jansson's; no use as an event */
	{"[]", false},
	{"1", false},
	{"{\"order_id\"}", false},
	{"{\"order_id\":}", false},
	{"{\"order_id\":\"o\"", false},
	{"{\"order_id\":\"o\",}", false},
	{"{,\"order_id\":\"o\"}", false},
	{"{\"order_id\" \"o\"}", false},
	{"{\"order_id\":\"o}", false},
	{"{\"order_id\":\"o\"}x", false},
	{"{\"order_id\":\"o\"}{}", false},
	{"\xef\xbb\xbf{\"order_id\":\"o\"}", false},
	{"{\"order_id\":\"o\",\"order_id\":\"o\"}", false},
	{"{\"note\":1,\"note\":1}", false},
	{"{\"order_id\":\"\\u006f\"}", false},
	{"{\"order\\u005fid\":\"o\"}", false},
	{"{\"order_id\":\"a\nb\"}", false},
	{"{\"order_id\":\"a\x1f\"}", false},
	{"{\"order_id\":\"\xff\"}", false},
	{"{\"order_id\":\"\xc0\xaf\"}", false},
	{"{\"order_id\":\"\xed\xa0\x80\"}", false},
	{"{\"order_id\":\"\xc3\"}", false},
	{"{\"amount_minor\":-1}", false},
	{"{\"amount_minor\":01}", false},
	{"{\"amount_minor\":+1}", false},
	{"{\"amount_minor\":1.0}", false},
	{"{\"amount_minor\":1e3}", false},
	{"{\"amount_minor\":1000000000000000000}", false},
	{"{\"amount_minor\":nul}", false},
	{"{\"amount_minor\":nulll}", false},
	{"{\"amount_minor\":tru", false},
	{"{\"note\":[1]}", false},
	{"{\"note\":{}}", false},
	{"{\"note\":0.5}", false},
};

static struct event_json *json;

static void setup(void)
{
	event_json_setup();
	json = event_json_new();
}

static void teardown(void)
{
	event_json_free(json);
}

static void assert_same_value(const struct member_value *fast, const struct member_value *slow)
{
	ck_assert_int_eq(fast->kind, slow->kind);
	if (fast->kind == JSON_KIND_STRING)
		ck_assert(slice_equal(fast->text, slow->text));
	if (fast->kind == JSON_KIND_INTEGER)
		ck_assert_int_eq(fast->integer, slow->integer);
}

/* Returns: whether the fast reader took it; then both have read the same. */
static bool both_read(struct slice text)
{
	struct event_members fast, slow;
	struct decode_error error;

	if (!event_fast_read(text, &fast))
		return false;
	/* What the decoder refuses before it asks jansson, the fast reader must not take. */
	ck_assert(!memchr(text.data, '\0', text.len));
	ck_assert(json_depth_within(text, EVENT_DEPTH_MAX));
	enum error_code code = event_json_read(json, text, &slow, &error);
	ck_assert_msg(code == ERROR_NONE, "jansson refuses what the fast reader took: %.*s", (int)text.len, text.data);
	for (int i = 0; i < MEMBER_COUNT; i++)
		assert_same_value(&fast.values[i], &slow.values[i]);
	ck_assert_uint_eq(fast.unknown, slow.unknown);
	ck_assert(slice_equal(fast.first_unknown, slow.first_unknown));
	event_json_release(json);
	return true;
}

START_TEST(test_event_fast__shapes)
{
	ck_assert_int_eq(both_read(slice_of(shapes[_i].text)), shapes[_i].taken);
}
END_TEST

/* Any zero byte, wherever it stands, is not for the fast reader. */
START_TEST(test_event_fast__zero_bytes)
{
	char text[sizeof(usual)];

	for (size_t i = 0; i < sizeof(usual) - 1; i++) {
		memcpy(text, usual, sizeof(usual));
		text[i] = '\0';
		ck_assert(!both_read((struct slice){text, sizeof(usual) - 1}));
	}
}
END_TEST

/* No prefix is taken, and none is read beyond its end: each is a block of its own, for the sanitizer. */
START_TEST(test_event_fast__prefixes)
{
	for (size_t len = 0; len < sizeof(usual) - 1; len++) {
		char *text = malloc(len + 1);
		ck_assert_ptr_nonnull(text);
		memcpy(text + 1, usual, len);
		ck_assert(!both_read((struct slice){text + 1, len}));
		free(text);
	}
}
END_TEST

static size_t mutate(struct prng *p, char *text, size_t len, size_t size)
{
	static const char bytes[] = "\"\\{}[],:0123456789-+.eE tfn\n\x01\x7f\x80\xbf\xc3\xe2\xed\xf0\xff";
	size_t at = (size_t)prng_below(p, len);
	size_t other = (size_t)prng_below(p, len);

	switch (prng_below(p, 5)) {
	case 0:
		text[at] = bytes[prng_below(p, sizeof(bytes))]; /* its NUL included */
		return len;
	case 1:
		memmove(text + at, text + at + 1, len - at - 1);
		return len - 1;
	case 2:
		if (len == size)
			return len;
		memmove(text + at + 1, text + at, len - at);
		text[at] = bytes[prng_below(p, sizeof(bytes))];
		return len + 1;
	case 3: {
		char kept = text[at];
		text[at] = text[other];
		text[other] = kept;
		return len;
	}
	default: {
		size_t n = (size_t)prng_below(p, len - (at > other ? at : other)) % 12;
		memmove(text + at, text + other, n);
		return len;
	}
	}
}

START_TEST(test_event_fast__mutations)
{
	enum { ROUNDS = 300000, MUTATIONS_MAX = 4 };
	struct prng p = prng_of(20261125);
	char text[sizeof(usual) + MUTATIONS_MAX];
	size_t taken = 0;

	for (int i = 0; i < ROUNDS; i++) {
		size_t len = sizeof(usual) - 1;
		memcpy(text, usual, len);
		for (uint64_t n = 1 + prng_below(&p, MUTATIONS_MAX); n > 0; n--)
			len = mutate(&p, text, len, sizeof(text));
		taken += both_read((struct slice){text, len});
	}
	/* Else the comparison would be of little. */
	ck_assert_uint_gt(taken, ROUNDS / 20);
	ck_assert_uint_lt(taken, ROUNDS * 19 / 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("event_fast");
	TCase *all = tcase_create("all");

	tcase_add_checked_fixture(all, setup, teardown);
	tcase_set_timeout(all, 60);
	tcase_add_loop_test(all, test_event_fast__shapes, 0, (int)(sizeof(shapes) / sizeof(shapes[0])));
	tcase_add_test(all, test_event_fast__zero_bytes);
	tcase_add_test(all, test_event_fast__prefixes);
	tcase_add_test(all, test_event_fast__mutations);
	suite_add_tcase(suite, all);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
