#include "common/version.h"

const char program_version[] = VERSION;
