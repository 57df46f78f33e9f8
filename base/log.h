/* Log lines of our processes: logfmt on standard error, one write(2) a line. */
#ifndef CLOISTER_BASE_LOG_H
#define CLOISTER_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* proc names the process in each line ("launcher", "server", "supervisor"); lines above level are dropped. */
void log_init(const char *proc, enum log_level level);
/* time=... level=... proc=... msg="..." ; control characters are escaped. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
