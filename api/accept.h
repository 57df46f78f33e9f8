/* Content negotiation (RFC 9110, section 12.5.1). */
#ifndef CLOISTER_API_ACCEPT_H
#define CLOISTER_API_ACCEPT_H

/* Which of the media types (NULL at the end) the Accept header likes best: the highest q, then the first in the list.
 * NULL accepts all. -1: none of them. */
int accept_pick(const char *accept, const char *const *media);

#endif
