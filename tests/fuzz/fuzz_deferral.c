/* The headers of a deferred copy. Input: headers, a line each. */
#include "tests/fuzz/fuzz.h"

#include "worker/pipeline/copy.h"

enum { HEADERS_MAX = 64, OWN = 7 };

static void check_read(const struct record *r)
{
	ENSURE(slice_present(r->source.topic) && r->source.partition >= 0 && r->source.offset >= 0);
	ENSURE(r->source.timestamp_us >= -1 && r->not_before_ms >= 0);
	/* A slot is whole or none. */
	ENSURE((r->slot.at_ms > 0) == (r->slot.generation > 0) && (r->slot.at_ms > 0) == (r->slot.per_second > 0));
	ENSURE(copy_source_timestamp(r->headers, r->header_count, 4000) == r->source.timestamp_us);
}

/* Deferred again, it names the same source, is due when it is told, and grows by no header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = {(const char *)data, size};
	struct header headers[HEADERS_MAX];
	struct record first = {.headers = headers, .deferred = true, .source = {SLICE_LITERAL("own"), 1, 2, 4000}};
	struct kafka_message once, twice;
	struct copy_builder builders[2];

	first.header_count = fuzz_headers(&rest, headers, HEADERS_MAX);
	copy_read_headers(&first);
	check_read(&first);
	copy_builder_init(&builders[0]);
	copy_builder_init(&builders[1]);
	copy_deferral(&builders[0], &first, "own.deferred", 1, 12345, &once);
	struct record second = {.headers = (struct header *)(uintptr_t)once.headers,
				.header_count = once.header_count,
				.deferred = true,
				.source = {SLICE_LITERAL("other"), 9, 9, 4000}};
	copy_read_headers(&second);
	check_read(&second);
	ENSURE(slice_equal(first.source.topic, second.source.topic) && first.source.offset == second.source.offset);
	ENSURE(first.source.partition == second.source.partition && second.not_before_ms == 12345);
	ENSURE(memcmp(&first.slot, &second.slot, sizeof(first.slot)) == 0);
	/* A time is written in ms. */
	ENSURE(first.source.timestamp_us / 1000 == second.source.timestamp_us / 1000);
	copy_deferral(&builders[1], &second, "own.deferred", 2, 67890, &twice);
	/* Ours are taken off once each: what a publisher calls by the same names stays. */
	ENSURE(once.header_count - first.header_count <= OWN && twice.header_count == once.header_count);
	/* Slices, not only what they say: the original's are handed on as they are. */
	ENSURE(memcmp(once.headers, headers, (once.header_count - OWN) * sizeof(*headers)) == 0);
	ENSURE(memcmp(twice.headers, headers, (once.header_count - OWN) * sizeof(*headers)) == 0);
	copy_builder_release(&builders[0]);
	copy_builder_release(&builders[1]);
	return 0;
}
