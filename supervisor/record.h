/* The record a supervisor leaves on disk: what a restarted server trusts when the supervisor is gone. */
#ifndef CLOISTER_SUPERVISOR_RECORD_H
#define CLOISTER_SUPERVISOR_RECORD_H

#include "supervisor/messages.h"

/* Writes <task_dir>/record: an end durably; what comes before it only needs to survive our processes, since a power cut
 * ends the task too. 0, or -1 with errno. */
int record_write(int task_dir_fd, const struct run_status *s);
/* Room on the disk for the record of the end, which the task itself may have filled by then. 0, or -1 with errno. */
int record_reserve(int task_dir_fd);
/* Reads it back: 0, or -1 with errno (ENOENT none, EBADMSG cut short, or of another id). */
int record_read(int task_dir_fd, const char *id, struct run_status *s);
/* Fills s with version, id, boot id and the caller as supervisor; the rest is zero. */
void record_init(struct run_status *s, const char *id);
/* Start time of pid in clock ticks after boot (field 22 of proc_pid_stat(5)); 0 when it is gone. */
uint64_t record_pid_start(pid_t pid);

#endif
