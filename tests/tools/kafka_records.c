/*
 * Records byte for byte, which kcat can't send or show: null beside empty, binary headers, repeated ones.
 *
 *     kafka_records BROKERS produce TOPIC [CODEC]  a record a line from stdin, in order, acks=all
 *     kafka_records BROKERS transact TOPIC ID      the same, in transactions of that id
 *     kafka_records BROKERS consume TOPIC          all records that may be read up to the ends of the log, to stdout
 *     kafka_records BROKERS committed GROUP TOPIC  a line a partition: PARTITION OFFSET METADATA
 *     kafka_records BROKERS ranges TOPIC...        a line a partition: TOPIC PARTITION START END
 *
 * A line is `PARTITION OFFSET TIMESTAMP_MS KEY VALUE [NAME VALUE]...`; of bytes: `-` is null, else `x` and their hex
 * digits. For produce, OFFSET is ignored, PARTITION -1 goes by key, TIMESTAMP_MS 0 is now; it prints `LINE PARTITION
 * OFFSET TIMESTAMP_MS` for each record that the broker acknowledged, LINE counted from 0. Of the others nothing is
 * known: exit 1 says that there are some. For transact, a line `commit` or `abort` ends a transaction, and `say` is
 * answered by `said` once all lines before it are reported; what is open at the end stays so.
 *
 * Exit codes: 0; 1 with a line on stderr; 2 usage.
 */
#include <librdkafka/rdkafka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	LIMIT_MS = 30000,
	LOOK_MS = 100,
	/* A broker may be away that long while records wait. */
	DELIVERY_LIMIT_MS = 120000,
	REASON_MAX = 256,
};

struct bytes {
	char *data; /* NULL: null */
	size_t len;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "kafka_records: %s: %s\n", what, why);
	exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char reason[REASON_MAX];
	if (rd_kafka_conf_set(conf, name, value, reason, sizeof(reason)))
		die(name, reason);
}

static rd_kafka_t *open_client(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *brokers)
{
	char reason[REASON_MAX];
	set(conf, "bootstrap.servers", brokers);
	rd_kafka_t *client = rd_kafka_new(type, conf, reason, sizeof(reason));
	if (!client)
		die("client", reason);
	return client;
}

/* ---- produce ---- */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place. */
static struct bytes parse_bytes(char *word)
{
	if (!word || (strcmp(word, "-") != 0 && word[0] != 'x'))
		die(word ? word : "line", "neither - nor x and hex digits");
	if (word[0] == '-')
		return (struct bytes){NULL, 0};
	size_t len = strlen(word + 1) / 2;
	for (size_t i = 0; i < len; i++) {
		int high = digit(word[1 + 2 * i]), low = digit(word[2 + 2 * i]);
		if (high < 0 || low < 0)
			die("line", "not a hex digit");
		word[i] = (char)(high * 16 + low);
	}
	return (struct bytes){word, len};
}

static int64_t parse_number(char *word)
{
	char *end;
	errno = 0;
	int64_t number = word ? strtoll(word, &end, 10) : 0;
	if (!word || *end || errno)
		die(word ? word : "line", "not a number");
	return number;
}

/* `line`: LINE of the report, which comes with the delivery report as its opaque. */
static void send_line(rd_kafka_t *client, const char *topic, char *text, intptr_t line)
{
	char *rest = NULL;
	int64_t partition = parse_number(strtok_r(text, " ", &rest));
	(void)parse_number(strtok_r(NULL, " ", &rest));
	int64_t timestamp_ms = parse_number(strtok_r(NULL, " ", &rest));
	struct bytes key = parse_bytes(strtok_r(NULL, " ", &rest));
	struct bytes value = parse_bytes(strtok_r(NULL, " ", &rest));
	rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
	for (char *word = strtok_r(NULL, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		struct bytes name = parse_bytes(word);
		struct bytes content = parse_bytes(strtok_r(NULL, " ", &rest));
		if (rd_kafka_header_add(headers, name.data, (ssize_t)name.len, content.data, (ssize_t)content.len))
			die("header", "refused");
	}
	rd_kafka_resp_err_t err;
	/* The queue holds records until their reports are taken, so it empties here and not by waiting in the call. */
	while ((err = rd_kafka_producev(client, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION((int32_t)partition),
	                                RD_KAFKA_V_TIMESTAMP(timestamp_ms), RD_KAFKA_V_KEY(key.data, key.len),
	                                RD_KAFKA_V_VALUE(value.data, value.len), RD_KAFKA_V_HEADERS(headers),
	                                RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE((void *)line),
	                                RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		rd_kafka_poll(client, 10);
	if (err)
		die(topic, rd_kafka_err2str(err));
	rd_kafka_poll(client, 0);
}

static void on_report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
	rd_kafka_resp_err_t *failure = opaque;
	rd_kafka_timestamp_type_t type;

	(void)client;
	if (message->err)
		*failure = message->err;
	else
		printf("%" PRIdPTR " %" PRId32 " %" PRId64 " %" PRId64 "\n", (intptr_t)message->_private,
		       message->partition, message->offset, rd_kafka_message_timestamp(message, &type));
}

/* `failure`: where the reports leave the last error. */
static rd_kafka_t *open_producer(const char *brokers, rd_kafka_resp_err_t *failure, const char *name, const char *value)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	set(conf, "acks", "all");
	/* The flush waits for none of it. */
	set(conf, "linger.ms", "1000");
	set(conf, "message.max.bytes", "10000000");
	set(conf, name, value);
	/* One request at a time: a retry must not reorder. */
	set(conf, "max.in.flight", "1");
	rd_kafka_conf_set_dr_msg_cb(conf, on_report);
	rd_kafka_conf_set_opaque(conf, failure);
	return open_client(RD_KAFKA_PRODUCER, conf, brokers);
}

/* Returns: false at the end; the line without its newline. */
static bool next_line(char **text, size_t *size)
{
	ssize_t len = getline(text, size, stdin);
	if (len > 0 && (*text)[len - 1] == '\n')
		(*text)[len - 1] = '\0';
	return len > 0;
}

static void flush(rd_kafka_t *client, const char *topic, const rd_kafka_resp_err_t *failure)
{
	bool late = rd_kafka_flush(client, DELIVERY_LIMIT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR;
	/* What was acknowledged is told all the same. */
	if (late || *failure)
		die(topic, late ? "not all was delivered in time" : rd_kafka_err2str(*failure));
}

/*
 * What one call sends to a partition is one batch, unless that is full before: damage of a batch is planted by its
 * offset. librdkafka hands records over one by one while it learns of their topic, and sends what it has meanwhile.
 */
static rd_kafka_topic_t *know_topic(rd_kafka_t *client, const char *name)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
	rd_kafka_resp_err_t err = rd_kafka_metadata(client, 0, topic, &metadata, LIMIT_MS);
	if (err)
		die(name, rd_kafka_err2str(err));
	rd_kafka_metadata_destroy(metadata);
	return topic;
}

static void produce(const char *brokers, const char *topic, const char *codec)
{
	rd_kafka_resp_err_t failure = RD_KAFKA_RESP_ERR_NO_ERROR;
	rd_kafka_t *client = open_producer(brokers, &failure, "compression.codec", codec);
	rd_kafka_topic_t *known = know_topic(client, topic);
	char *text = NULL;
	size_t size = 0;
	for (intptr_t line = 0; next_line(&text, &size); line++)
		send_line(client, topic, text, line);
	free(text);
	flush(client, topic, &failure);
	rd_kafka_topic_destroy(known);
	rd_kafka_destroy(client);
}

/* ---- transact ---- */

static void check(const char *what, rd_kafka_error_t *error)
{
	if (error)
		die(what, rd_kafka_error_string(error));
}

static void transact(const char *brokers, const char *topic, const char *id)
{
	rd_kafka_resp_err_t failure = RD_KAFKA_RESP_ERR_NO_ERROR;
	rd_kafka_t *client = open_producer(brokers, &failure, "transactional.id", id);
	char *text = NULL;
	size_t size = 0;
	bool open = false;
	check("init", rd_kafka_init_transactions(client, LIMIT_MS));
	for (intptr_t line = 0; next_line(&text, &size); line++) {
		bool say = strcmp(text, "say") == 0, commit = strcmp(text, "commit") == 0;
		if (!say && !commit && strcmp(text, "abort") != 0) {
			if (!open)
				check("begin", rd_kafka_begin_transaction(client));
			open = true;
			send_line(client, topic, text, line);
			continue;
		}
		/* An abort would throw away what is not in the log yet. */
		flush(client, topic, &failure);
		if (say) {
			puts("said");
			fflush(stdout);
			continue;
		}
		check(text, commit ? rd_kafka_commit_transaction(client, LIMIT_MS)
				   : rd_kafka_abort_transaction(client, LIMIT_MS));
		open = false;
	}
	free(text);
	rd_kafka_destroy(client);
}

/* ---- consume ---- */

static void put_bytes(const void *data, size_t len, char end)
{
	const unsigned char *at = data;
	if (!data) {
		printf("-%c", end);
		return;
	}
	putchar('x');
	for (size_t i = 0; i < len; i++)
		printf("%02x", at[i]);
	putchar(end);
}

static void put_record(const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	rd_kafka_headers_t *headers = NULL;
	const char *name;
	const void *value;
	size_t size;

	printf("%" PRId32 " %" PRId64 " %" PRId64 " ", message->partition, message->offset,
	       rd_kafka_message_timestamp(message, &type));
	put_bytes(message->key, message->key_len, ' ');
	put_bytes(message->payload, message->len, ' ');
	if (!rd_kafka_message_headers(message, &headers)) {
		for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &name, &value, &size); i++) {
			put_bytes(name, strlen(name), ' ');
			put_bytes(value, size, ' ');
		}
	}
	putchar('\n');
}

/* Returns: a list of the topic's partitions. */
static rd_kafka_topic_partition_list_t *list_partitions(rd_kafka_t *client, const char *name)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(client, name, NULL);
	rd_kafka_resp_err_t err = rd_kafka_metadata(client, 0, topic, &metadata, LIMIT_MS);
	if (!err)
		err = metadata->topics[0].err;
	if (err)
		die(name, rd_kafka_err2str(err));
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(metadata->topics[0].partition_cnt);
	for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
		rd_kafka_topic_partition_list_add(list, name, metadata->topics[0].partitions[i].id)->offset =
			RD_KAFKA_OFFSET_BEGINNING;
	rd_kafka_metadata_destroy(metadata);
	rd_kafka_topic_destroy(topic);
	return list;
}

static rd_kafka_t *open_consumer(const char *brokers, const char *group)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	set(conf, "receive.message.max.bytes", "1000000000"); /* which also bounds what a zstd batch inflates to */
	set(conf, "group.id", group);
	set(conf, "enable.auto.commit", "false");
	set(conf, "enable.partition.eof", "true");
	set(conf, "fetch.wait.max.ms", "20");
	set(conf, "isolation.level", "read_committed");
	return open_client(RD_KAFKA_CONSUMER, conf, brokers);
}

/* A partition that others write to has ends again and again: it counts once, and leaves the list of what is open. */
static void end_partition(rd_kafka_topic_partition_list_t *open, const rd_kafka_message_t *message)
{
	rd_kafka_topic_partition_list_del(open, rd_kafka_topic_name(message->rkt), message->partition);
}

static void consume(const char *brokers, const char *topic)
{
	rd_kafka_t *client = open_consumer(brokers, "kafka_records");
	rd_kafka_poll_set_consumer(client);
	rd_kafka_topic_partition_list_t *list = list_partitions(client, topic);
	if (rd_kafka_assign(client, list))
		die(topic, "not assigned");
	while (list->cnt > 0) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(client, LIMIT_MS);
		if (!message)
			die(topic, "no answer in time");
		if (!message->err)
			put_record(message);
		else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			end_partition(list, message);
		else
			die(topic, rd_kafka_message_errstr(message));
		rd_kafka_message_destroy(message);
	}
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

/* ---- committed ---- */

static void committed(const char *brokers, const char *group, const char *topic)
{
	rd_kafka_t *client = open_consumer(brokers, group);
	rd_kafka_topic_partition_list_t *list = list_partitions(client, topic);
	rd_kafka_resp_err_t err = rd_kafka_committed(client, list, LIMIT_MS);
	/* The group's coordinator is moving, and answers when it knows what it takes over. */
	for (int tries = 0; tries < LIMIT_MS / LOOK_MS && (err == RD_KAFKA_RESP_ERR_NOT_COORDINATOR ||
							   err == RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS ||
							   err == RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE);
	     tries++) {
		nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
		err = rd_kafka_committed(client, list, LIMIT_MS);
	}
	if (err)
		die(topic, rd_kafka_err2str(err));
	for (int i = 0; i < list->cnt; i++) {
		const rd_kafka_topic_partition_t *p = &list->elems[i];
		printf("%" PRId32 " %" PRId64 " ", p->partition, p->offset >= 0 ? p->offset : -1);
		put_bytes(p->metadata, p->metadata_size, '\n');
	}
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

/* ---- ranges ---- */

static void ranges(const char *brokers, char **topics)
{
	rd_kafka_t *client = open_consumer(brokers, "kafka_records");
	for (; *topics; topics++) {
		rd_kafka_topic_partition_list_t *list = list_partitions(client, *topics);
		for (int i = 0; i < list->cnt; i++) {
			int64_t start, end;
			int32_t partition = list->elems[i].partition;
			rd_kafka_resp_err_t err =
				rd_kafka_query_watermark_offsets(client, *topics, partition, &start, &end, LIMIT_MS);
			if (err)
				die(*topics, rd_kafka_err2str(err));
			printf("%s %" PRId32 " %" PRId64 " %" PRId64 "\n", *topics, partition, start, end);
		}
		rd_kafka_topic_partition_list_destroy(list);
	}
	rd_kafka_destroy_flags(client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[2] : "";
	if ((argc == 4 || argc == 5) && strcmp(verb, "produce") == 0) {
		produce(argv[1], argv[3], argc == 5 ? argv[4] : "none");
	} else if (argc == 5 && strcmp(verb, "transact") == 0) {
		transact(argv[1], argv[3], argv[4]);
	} else if (argc == 4 && strcmp(verb, "consume") == 0) {
		consume(argv[1], argv[3]);
	} else if (argc == 5 && strcmp(verb, "committed") == 0) {
		committed(argv[1], argv[3], argv[4]);
	} else if (argc >= 4 && strcmp(verb, "ranges") == 0) {
		ranges(argv[1], argv + 3);
	} else {
		fprintf(stderr,
			"usage: kafka_records BROKERS produce TOPIC [CODEC] | transact TOPIC ID | consume TOPIC |"
			" committed GROUP TOPIC | ranges TOPIC...\n");
		return 2;
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
