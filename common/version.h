/* The program's version, from the file VERSION at build time. */
#ifndef COMMON_VERSION_H
#define COMMON_VERSION_H

extern const char program_version[];

#endif
