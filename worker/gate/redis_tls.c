#include "worker/gate/redis_tls.h"

#include <stdio.h>

#ifdef HAVE_HIREDIS_SSL

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static int fail(char *error, size_t size, const char *what, const char *which)
{
	char reason[160] = "";
	unsigned long code = ERR_peek_last_error();
	if (code)
		ERR_error_string_n(code, reason, sizeof(reason));
	snprintf(error, size, "%s%s%s%s%s", what, which[0] ? " " : "", which, reason[0] ? ": " : "", reason);
	return -1;
}

/* No terminal is asked. */
static int no_passphrase(char *out, int size, int writing, void *unused)
{
	(void)out, (void)size, (void)writing, (void)unused;
	return 0;
}

static int load_files(SSL_CTX *ctx, const struct redis_tls *tls, char *error, size_t size)
{
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	if (redis_tls_file(tls->ca) ? SSL_CTX_load_verify_locations(ctx, tls->ca, NULL) != 1
	                            : SSL_CTX_set_default_verify_paths(ctx) != 1)
		return fail(error, size, "redis.tls.ca", tls->ca ? tls->ca : "");
	if (!redis_tls_file(tls->cert))
		return 0;
	if (SSL_CTX_use_certificate_chain_file(ctx, tls->cert) != 1)
		return fail(error, size, "redis.tls.cert", tls->cert);
	if (SSL_CTX_use_PrivateKey_file(ctx, tls->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return fail(error, size, "redis.tls.key", tls->key);
	return 0;
}

static int expect_host(SSL *ssl, const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];
	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

static int shake_hands(redisContext *context, SSL *ssl, const struct redis_target *t, char *error, size_t size)
{
	if (expect_host(ssl, t->host) != 1)
		return fail(error, size, "TLS: no name to compare with", t->host);
	if (redisInitiateSSL(context, ssl) == REDIS_OK)
		return 0;
	long verified = SSL_get_verify_result(ssl);
	snprintf(error, size, "TLS: %.150s", verified != X509_V_OK ? X509_verify_cert_error_string(verified)
	                                                           : context->errstr);
	return -1;
}

int redis_tls_start(struct redisContext *context, const struct redis_target *t, const struct redis_tls *tls,
                    char *error, size_t error_size)
{
	ERR_clear_error();
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		return fail(error, error_size, "TLS", "");
	SSL *ssl = NULL;
	int result = load_files(ctx, tls, error, error_size);
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (result == 0 && !(ssl = SSL_new(ctx)))
		result = fail(error, error_size, "TLS", "");
	SSL_CTX_free(ctx); /* `ssl` keeps it */
	if (result == 0)
		result = shake_hands(context, ssl, t, error, error_size);
	if (result < 0)
		SSL_free(ssl); /* else the context's */
	return result;
}

#else

int redis_tls_start(struct redisContext *context, const struct redis_target *t, const struct redis_tls *tls,
                    char *error, size_t error_size)
{
	(void)context, (void)t, (void)tls;
	snprintf(error, error_size, "rediss:// needs a build with hiredis_ssl");
	return -1;
}

#endif
