/* Log lines of our processes: logfmt on standard error, one write(2) a line. */
#ifndef CLOISTER_BASE_LOG_H
#define CLOISTER_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Names the process in each line: "launcher", "server", "supervisor". */
void log_init(const char *proc);
/* Least level of lines by name ("error", "warn", "info", "debug"); children inherit it. -1 when there is no such one.
 */
int log_set_level(const char *name);
/* time=... level=... proc=... msg="..." ; control characters are escaped. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
