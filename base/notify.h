/* The service manager's protocol (sd_notify(3)): a datagram to the socket that NOTIFY_SOCKET names. */
#ifndef CLOISTER_BASE_NOTIFY_H
#define CLOISTER_BASE_NOTIFY_H

#include <stdint.h>

/* Sends "READY=1", "STATUS=...", "WATCHDOG=1", "STOPPING=1" or several on lines of their own. 0, also when nobody
 * listens; -1 with errno. */
int notify_send(const char *state);
/* How often WATCHDOG=1 is expected of this process, in ms; 0 when it is not (sd_watchdog_enabled(3)). */
int64_t notify_watchdog_ms(void);

#endif
