/*
 * Names of hosts, as they stand in connection strings.
 * Thread: any; pure.
 */
#ifndef COMMON_HOST_H
#define COMMON_HOST_H

#include "common/slice.h"

#include <stdbool.h>

/* Whether what is sent to `host` stays on this machine: a socket's path, "localhost", 127.0.0.0/8, ::1. */
bool host_is_local(struct slice host);

#endif
