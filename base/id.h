/* Task ids: UUID version 7 (RFC 9562), lower case; they sort by time of creation. */
#ifndef CLOISTER_BASE_ID_H
#define CLOISTER_BASE_ID_H

#include <stdbool.h>

enum { ID_LEN = 36 };

void id_new(char out[ID_LEN + 1]);
bool id_valid(const char *s); /* exactly the form that id_new makes: safe as a file name */

#endif
