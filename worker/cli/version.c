#include "common/version.h"

#include "common/json_writer.h"
#include "schemas/migrations.h"
#include "worker/cli/cli.h"
#include "worker/cli/table.h"
#include "worker/failpoint.h"

#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <pg_config.h>

#define TEXT_OF(x) #x
#define TEXT_OF_VALUE(x) TEXT_OF(x)

struct library {
	const char *name;
	char built[32];  /* version of its headers */
	char loaded[32]; /* version at run time; "" where the library does not tell */
};

static void put_kafka(struct library *l)
{
	int v = RD_KAFKA_VERSION; /* 0xMMmmrrxx */
	snprintf(l->built, sizeof(l->built), "%d.%d.%d", v >> 24 & 0xff, v >> 16 & 0xff, v >> 8 & 0xff);
	snprintf(l->loaded, sizeof(l->loaded), "%s", kafka_library_version());
}

static void put_postgres(struct library *l)
{
	int v = PQlibVersion(); /* 150020 */
	snprintf(l->built, sizeof(l->built), "%d.%d", PG_VERSION_NUM / 10000, PG_VERSION_NUM % 10000);
	snprintf(l->loaded, sizeof(l->loaded), "%d.%d", v / 10000, v % 10000);
}

enum { LIBRARIES = 5 };

static void put_libraries(struct library libraries[LIBRARIES])
{
	static const char hiredis_built[] =
		TEXT_OF_VALUE(HIREDIS_MAJOR) "." TEXT_OF_VALUE(HIREDIS_MINOR) "." TEXT_OF_VALUE(HIREDIS_PATCH);
	memset(libraries, 0, LIBRARIES * sizeof(*libraries));
	libraries[0].name = "librdkafka";
	put_kafka(&libraries[0]);
	libraries[1].name = "jansson";
	snprintf(libraries[1].built, sizeof(libraries[1].built), "%s", JANSSON_VERSION);
	snprintf(libraries[1].loaded, sizeof(libraries[1].loaded), "%s", jansson_version_str());
	libraries[2].name = "libpq";
	put_postgres(&libraries[2]);
	libraries[3].name = "hiredis";
	snprintf(libraries[3].built, sizeof(libraries[3].built), "%s", hiredis_built);
	libraries[4].name = "libevent";
	snprintf(libraries[4].built, sizeof(libraries[4].built), "%s", LIBEVENT_VERSION);
	snprintf(libraries[4].loaded, sizeof(libraries[4].loaded), "%s", event_get_version());
}

static void print_json(const struct library *libraries, int schema)
{
	struct buf text = BUF_INIT;
	struct json_writer w = json_writer_to(&text);

	json_put_open(&w, '{');
	json_put_key(&w, "version");
	json_put_text(&w, program_version);
	json_put_key(&w, "schema");
	json_put_int(&w, schema);
	json_put_key(&w, "libraries");
	json_put_open(&w, '{');
	for (size_t i = 0; i < LIBRARIES; i++) {
		json_put_key(&w, libraries[i].name);
		json_put_open(&w, '{');
		json_put_key(&w, "built");
		json_put_text(&w, libraries[i].built);
		json_put_key(&w, "loaded");
		json_put_text(&w, libraries[i].loaded[0] ? libraries[i].loaded : NULL);
		json_put_close(&w, '}');
	}
	json_put_close(&w, '}');
	FAIL_POINTS_PUT(&w);
	json_put_close(&w, '}');
	puts(text.data);
	buf_release(&text);
}

static void print_text(const struct library *libraries, int schema)
{
	static const struct table_column columns[] = {{"LIBRARY", false}, {"BUILT WITH", false}, {"LOADED", false}};
	struct table table = table_of(columns, 3);

	for (size_t i = 0; i < LIBRARIES; i++) {
		table_cell(&table, "%s", libraries[i].name);
		table_cell(&table, "%s", libraries[i].built);
		table_cell(&table, "%s", libraries[i].loaded[0] ? libraries[i].loaded : "?");
	}
	printf("delivery-worker %s\nschema %d\n", program_version, schema);
	table_print(&table, stdout);
	table_release(&table);
}

static int version_main(struct cli *cli)
{
	bool json = cli_flag(cli, "json");
	struct library libraries[LIBRARIES];

	if (cli->argc > 1)
		return cli_fail(cli, EXIT_USAGE, "unexpected argument \"%s\"", cli->argv[1]);
	put_libraries(libraries);
	int schema = migrations[migration_count - 1].version;
	if (json)
		print_json(libraries, schema);
	else
		print_text(libraries, schema);
	return EXIT_FINE;
}

static const char *const version_flags[] = {"json", NULL};

const struct command command_version = {
	.name = "version",
	.arguments = "[--json]",
	.help = "print the versions of the program, the schema it knows and the libraries",
	.flags = version_flags,
	.flags_help = "  --json   as one JSON object\n",
	.options = "",
	.run = version_main,
};
