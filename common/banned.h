/*
 * Calls that have no place here, as compile errors. Macros and not `#pragma GCC poison`, which would
 * refuse the system headers themselves; for the same reason those that declare the functions come first.
 * Included by ensure.h, that is, nearly everywhere.
 */
#ifndef COMMON_BANNED_H
#define COMMON_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BANNED(call) banned__##call##__see_common_banned_h

/* No bound, or one that leaves the string without its end: snprintf, memcpy, struct buf. */
#undef strcpy
#define strcpy(...) BANNED(strcpy)
#undef stpcpy
#define stpcpy(...) BANNED(stpcpy)
#undef strcat
#define strcat(...) BANNED(strcat)
#undef strncpy
#define strncpy(...) BANNED(strncpy)
#undef strncat
#define strncat(...) BANNED(strncat)
#undef sprintf
#define sprintf(...) BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) BANNED(vsprintf)
#undef gets
#define gets(...) BANNED(gets)

/* "12abc" is not 12, and an overflow is not a number: common/parse.h. */
#undef atoi
#define atoi(...) BANNED(atoi)
#undef atol
#define atol(...) BANNED(atol)
#undef atoll
#define atoll(...) BANNED(atoll)
#undef atof
#define atof(...) BANNED(atof)

/* State shared by all threads: the _r forms. */
#undef strtok
#define strtok(...) BANNED(strtok)
#undef gmtime
#define gmtime(...) BANNED(gmtime)
#undef localtime
#define localtime(...) BANNED(localtime)
#undef ctime
#define ctime(...) BANNED(ctime)
#undef asctime
#define asctime(...) BANNED(asctime)
#undef rand
#define rand(...) BANNED(rand)

/* Waiting is for something: a condition variable, a poll with a time-out. */
#undef sleep
#define sleep(...) BANNED(sleep)
#undef usleep
#define usleep(...) BANNED(usleep)

/* Children, and shells that read what others wrote. */
#undef system
#define system(...) BANNED(system)
#undef popen
#define popen(...) BANNED(popen)

#endif
