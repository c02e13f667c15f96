#include "common/sha256.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Writes the digest in hex, as everybody compares it. */
static void digest_text(struct slice data, char text[2 * SHA256_BYTES + 1])
{
	uint8_t digest[SHA256_BYTES];

	sha256(data, digest);
	for (size_t i = 0; i < SHA256_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

/* FIPS 180-4's examples, and of the NIST's SHA256ShortMsg.rsp one byte and four. */
static const struct {
	struct slice message;
	const char *digest;
} nist_rows[] = {
	{{"", 0}, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{{NULL, 0}, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{{"\xbd", 1}, "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b"},
	{{"\xc9\x8c\x8e\x55", 4}, "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504"},
	{{"abc", 3}, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56},
	 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	{{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
	  "nopqrstu",
	  112},
	 "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
};

START_TEST(test_sha256__nist_vectors)
{
	char text[2 * SHA256_BYTES + 1];

	digest_text(nist_rows[_i].message, text);
	ck_assert_str_eq(text, nist_rows[_i].digest);
}
END_TEST

START_TEST(test_sha256__a_million_bytes)
{
	enum { MILLION = 1000000 };
	char text[2 * SHA256_BYTES + 1];
	char *message = malloc(MILLION);

	ck_assert_ptr_nonnull(message);
	memset(message, 'a', MILLION);
	digest_text((struct slice){message, MILLION}, text);
	free(message);
	ck_assert_str_eq(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}
END_TEST

/* 00 01 ... (mod 256), of lengths around the block and around the place where the padding needs a second
 * one; digests from Python's hashlib. */
static const struct {
	size_t len;
	const char *digest;
} edge_rows[] = {
	{1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
	{55, "463eb28e72f82e0a96c0a4cc53690c571281131f672aa229e0d45ae59b598b59"},
	{56, "da2ae4d6b36748f2a318f23e7ab1dfdf45acdc9d049bd80e59de82a60895f562"},
	{57, "2fe741af801cc238602ac0ec6a7b0c3a8a87c7fc7d7f02a3fe03d1c12eac4d8f"},
	{63, "29af2686fd53374a36b0846694cc342177e428d1647515f078784d69cdb9e488"},
	{64, "fdeab9acf3710362bd2658cdc9a29e8f9c757fcf9811603a8c447cd1d9151108"},
	{65, "4bfd2c8b6f1eec7a2afeb48b934ee4b2694182027e6d0fc075074f2fabb31781"},
	{119, "da18797ed7c3a777f0847f429724a2d8cd5138e6ed2895c3fa1a6d39d18f7ec6"},
	{120, "f52b23db1fbb6ded89ef42a23ce0c8922c45f25c50b568a93bf1c075420bbb7c"},
	{127, "92ca0fa6651ee2f97b884b7246a562fa71250fedefe5ebf270d31c546bfea976"},
	{128, "471fb943aa23c511f6f72f8d1652d9c880cfa392ad80503120547703e56a2be5"},
	{129, "5099c6a56203f9687f7d33f4bfdf576d31dc91f6b695ecea38b2770c87631135"},
	{1000, "a8af099bf2e878609558dbf69d8f88f4a31040a8cf84b549a0cfa912f12ffc3f"},
};

START_TEST(test_sha256__block_edges)
{
	char text[2 * SHA256_BYTES + 1];
	char bytes[1 + 1000];

	/* From an odd address: nothing may read whole words of the message. */
	for (size_t i = 0; i < edge_rows[_i].len; i++)
		bytes[1 + i] = (char)i;
	digest_text((struct slice){bytes + 1, edge_rows[_i].len}, text);
	ck_assert_str_eq(text, edge_rows[_i].digest);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
	Suite *suite = suite_create("sha256");
	TCase *tc = tcase_create("sha256");
	tcase_add_loop_test(tc, test_sha256__nist_vectors, 0, ROWS(nist_rows));
	tcase_add_test(tc, test_sha256__a_million_bytes);
	tcase_add_loop_test(tc, test_sha256__block_edges, 0, ROWS(edge_rows));
	suite_add_tcase(suite, tc);
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	int failed = srunner_ntests_failed(runner), run = srunner_ntests_run(runner);
	srunner_free(runner);
	return failed > 0 || run == 0;
}
