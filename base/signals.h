/* Signal names (signal(7)). */
#ifndef CLOISTER_BASE_SIGNALS_H
#define CLOISTER_BASE_SIGNALS_H

/* "SIGTERM", "TERM", "term", "15", "SIGRTMIN+3", "RTMAX-1" to the number; -1 when it is none. 0 is no signal here. */
int signal_parse(const char *name);
/* "SIGTERM", "SIGRTMIN+3"; "SIG?" when unknown. Static storage, valid until the next call. */
const char *signal_name(int signum);

#endif
