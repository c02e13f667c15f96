#include "common/nearest.h"

enum { NAME_BYTES_MAX = 64 };

size_t nearest_distance(struct slice a, struct slice b)
{
	size_t row[NAME_BYTES_MAX + 1]; /* edits from a's first i bytes to b's first j, for the i at hand */

	if (a.len > NAME_BYTES_MAX || b.len > NAME_BYTES_MAX)
		return NAME_BYTES_MAX;
	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t above = row[j];
			size_t replaced = diagonal + (a.data[i - 1] != b.data[j - 1]);
			size_t shorter = above < row[j - 1] ? above : row[j - 1];
			row[j] = replaced < shorter + 1 ? replaced : shorter + 1;
			diagonal = above;
		}
	}
	return row[b.len];
}
