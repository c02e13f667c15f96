/* The clients of the process, and what each is to tell brokers that it connects to. */
#include "worker/kafka/kafka_internal.h"

#include "common/log.h"
#include "common/secret_file.h"
#include "common/thread.h"

#include <stdlib.h>

enum { CREDENTIAL_BYTES_MAX = 64 * 1024, CLIENTS_MAX = 96 }; /* 64 consumers, and a few */

struct client {
	rd_kafka_t *rk; /* NULL: free */
	enum kafka_side side;
	char *username, *password; /* as last set; NULL: as it was made */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct client clients[CLIENTS_MAX];

void kafka_credentials_add(rd_kafka_t *rk, rd_kafka_type_t type)
{
	mutex_lock(&lock);
	struct client *c = clients;
	while (c < clients + CLIENTS_MAX && c->rk)
		c++;
	ENSURE(c < clients + CLIENTS_MAX);
	*c = (struct client){.rk = rk, .side = type == RD_KAFKA_CONSUMER ? KAFKA_CONSUMER : KAFKA_PRODUCER};
	mutex_unlock(&lock);
}

static void forget(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

void kafka_credentials_remove(rd_kafka_t *rk)
{
	mutex_lock(&lock);
	for (struct client *c = clients; c < clients + CLIENTS_MAX; c++) {
		if (c->rk != rk)
			continue;
		forget(&c->username);
		forget(&c->password);
		c->rk = NULL;
	}
	mutex_unlock(&lock);
}

enum { NOT_GIVEN = -1 };

/* The one for this side stands above that for both. Returns: its index. */
static int find(const struct kafka_settings *s, enum kafka_side side, const char *name)
{
	int found = NOT_GIVEN;
	for (int i = 0; i < (int)s->property_count; i++) {
		const struct kafka_property *p = &s->properties[i];
		if (strcmp(p->name, name) == 0 && (p->side == side || (p->side == KAFKA_BOTH && found == NOT_GIVEN)))
			found = i;
	}
	return found;
}

/* As it is now; while its file can't be read, as it was. */
static const char *read_now(const struct kafka_settings *s, int i, const char *before, struct buf *out)
{
	const char *path = s->property_files[i];
	if (path && secret_file_read(path, CREDENTIAL_BYTES_MAX, out) == 0 &&
	    !memchr(buf_slice(out).data, 0, out->len))
		return buf_slice(out).data;
	return before;
}

static void refresh(struct client *c, const struct kafka_settings *s)
{
	int username = find(s, c->side, "sasl.username"), password = find(s, c->side, "sasl.password");
	if (username == NOT_GIVEN || password == NOT_GIVEN || !s->property_files ||
	    (!s->property_files[username] && !s->property_files[password]))
		return;
	struct buf user = BUF_INIT, word = BUF_INIT;
	const char *old_user = c->username ? c->username : s->properties[username].value;
	const char *old_word = c->password ? c->password : s->properties[password].value;
	const char *now_user = read_now(s, username, old_user, &user), *now_word = read_now(s, password, old_word, &word);
	bool same = strcmp(now_user, old_user) == 0 && strcmp(now_word, old_word) == 0;
	rd_kafka_error_t *error = same ? NULL : rd_kafka_sasl_set_credentials(c->rk, now_user, now_word);
	if (error) {
		LOG(LOG_ERROR, "kafka credentials not taken", LOG_S("client", rd_kafka_name(c->rk)),
		    LOG_S("reason", rd_kafka_error_string(error)));
		rd_kafka_error_destroy(error);
	} else if (!same) {
		LOG(LOG_INFO, "kafka credentials changed", LOG_S("client", rd_kafka_name(c->rk)));
		char *kept_user = strdup(now_user), *kept_word = strdup(now_word);
		ENSURE(kept_user && kept_word);
		forget(&c->username); /* now_user may point to it */
		forget(&c->password);
		c->username = kept_user;
		c->password = kept_word;
	}
	secret_release(&user);
	secret_release(&word);
}

void kafka_credentials_set_again(rd_kafka_t *rk, const char *username, const char *password)
{
	mutex_lock(&lock);
	struct client *c = clients;
	while (c->rk != rk)
		c++;
	rd_kafka_error_t *error = rd_kafka_sasl_set_credentials(rk, c->username ? c->username : username,
	                                                        c->password ? c->password : password);
	mutex_unlock(&lock);
	if (error)
		rd_kafka_error_destroy(error);
}

void kafka_refresh_credentials(const struct kafka_settings *s)
{
	mutex_lock(&lock);
	for (struct client *c = clients; c < clients + CLIENTS_MAX; c++) {
		if (c->rk)
			refresh(c, s);
	}
	mutex_unlock(&lock);
}
