/*
 * Variables that nobody wrote: kubelet gives each container a set for every Service of its namespace, and Docker for
 * every container that it is linked to. One called "dw", or "dw-kafka", has names that begin as ours do.
 *   https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
 *   https://docs.docker.com/engine/network/links/#environment-variables
 * Thread: any.
 */
#ifndef WORKER_CONFIG_LINK_VARIABLES_H
#define WORKER_CONFIG_LINK_VARIABLES_H

#include "common/slice.h"

/* Whether one of the two made it: by the form of name and value, so that a misspelt option is not taken for one. */
bool is_link_variable(struct slice name, const char *value, char *const *environment);

#endif
