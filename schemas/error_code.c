#include "schemas/error_code.h"

#include "common/ensure.h"

static const struct {
	const char *name;
	const char *class;
} codes[ERROR_CODE_COUNT] = {
#define ERROR_ROW(symbol, name, class) [ERROR_##symbol] = {name, class},
	ERROR_CODES(ERROR_ROW)
#undef ERROR_ROW
};

const char *error_code_name(enum error_code code)
{
	ENSURE(code > ERROR_NONE && code < ERROR_CODE_COUNT);
	return codes[code].name;
}

const char *error_code_class(enum error_code code)
{
	ENSURE(code > ERROR_NONE && code < ERROR_CODE_COUNT);
	return codes[code].class;
}
