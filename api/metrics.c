/* GET /metrics: the Prometheus text format 0.0.4. One row of the table is one metric. A value below 0 is not known and
 * is left out. */
#include "api/metrics.h"

#include <stdio.h>
#include <string.h>

/* --- samples --------------------------------------------------------------------------------------------------------
 */

static void put_value(struct scrape *s, double v)
{
    buf_printf(&s->out, " %.15g\n", v);
}

/* NAME{LABEL="TEXT"} V, escaped as the format says. */
static void put_labelled(struct scrape *s, const char *name, const char *label, const char *text, double v)
{
    if (v < 0)
        return;
    buf_printf(&s->out, "%s{%s=\"", name, label);
    for (; *text; text++) {
        if (*text == '\n')
            buf_puts(&s->out, "\\n");
        else
            buf_printf(&s->out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    }
    buf_puts(&s->out, "\"}");
    put_value(s, v);
}

static void put_histogram(struct scrape *s, const char *name, const struct histogram *h)
{
    uint64_t n = 0;

    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        n += h->count[i];
        buf_printf(&s->out, "%s_bucket{le=\"%g\"} %llu\n", name, histogram_bounds[i], (unsigned long long)n);
    }
    n += h->count[HISTOGRAM_BOUNDS];
    buf_printf(&s->out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name, (unsigned long long)n, name,
               h->sum, name, (unsigned long long)n);
}

/* --- metrics with labels --------------------------------------------------------------------------------------------
 */

static void put_build(struct scrape *s, const char *name)
{
    put_labelled(s, name, "version", s->api->version, 1);
}

static void put_driver(struct scrape *s, const char *name)
{
    put_labelled(s, name, "driver", "exec", registry_attributes(s->api->registry)->driver_exec);
}

static void put_states(struct scrape *s, const char *name)
{
    for (int i = 0; i < TASK_STATES; i++)
        put_labelled(s, name, "state", task_state_name((enum task_state)i), (double)s->states[i]);
}

static void put_failures(struct scrape *s, const char *name)
{
    for (size_t i = 0; i < s->events->nfailures; i++)
        put_labelled(s, name, "step", s->events->failures[i].step, (double)s->events->failures[i].n);
}

static void put_log_bytes(struct scrape *s, const char *name)
{
    put_labelled(s, name, "stream", "stdout", (double)s->events->log_bytes[0]);
    put_labelled(s, name, "stream", "stderr", (double)s->events->log_bytes[1]);
}

static void put_events(struct scrape *s, const char *name)
{
    for (int i = 0; i < EVENT_TYPES; i++)
        put_labelled(s, name, "type", event_type_name((enum event_type)i), (double)s->events->by_type[i]);
}

static void put_responses(struct scrape *s, const char *name)
{
    for (int i = 2; i < 6; i++) {
        char class[] = {(char)('0' + i), 'x', 'x', '\0'};

        put_labelled(s, name, "code", class, (double)s->http->responses[i]);
    }
}

static void put_latency(struct scrape *s, const char *name)
{
    put_histogram(s, name, &s->http->latency);
}

static void put_turns(struct scrape *s, const char *name)
{
    put_histogram(s, name, s->turns);
}

static void put_commits(struct scrape *s, const char *name)
{
    put_histogram(s, name, s->commits);
}

static double seconds(int64_t ns)
{
    return ns < 0 ? -1 : (double)ns / 1e9;
}

static void put_task_cpu(struct scrape *s, const char *name)
{
    for (size_t i = 0; i < s->ntasks; i++)
        put_labelled(s, name, "task", s->tasks[i].task->id, seconds(s->tasks[i].usage.cpu_ns));
}

static void put_task_memory(struct scrape *s, const char *name)
{
    for (size_t i = 0; i < s->ntasks; i++)
        put_labelled(s, name, "task", s->tasks[i].task->id, (double)s->tasks[i].usage.memory_bytes);
}

static void put_task_pids(struct scrape *s, const char *name)
{
    for (size_t i = 0; i < s->ntasks; i++)
        put_labelled(s, name, "task", s->tasks[i].task->id, (double)s->tasks[i].usage.pids);
}

static void put_task_restarts(struct scrape *s, const char *name)
{
    for (size_t i = 0; i < s->ntasks; i++)
        put_labelled(s, name, "task", s->tasks[i].task->id, s->tasks[i].task->status.restarts);
}

static void put_task_log_bytes(struct scrape *s, const char *name)
{
    for (size_t i = 0; i < s->ntasks; i++) {
        const uint64_t *n = s->tasks[i].task->status.log_bytes;

        put_labelled(s, name, "task", s->tasks[i].task->id, (double)(n[0] + n[1]));
    }
}

/* Names are chosen by users: monitors get ids only. Neither ids nor names need escaping. */
static void put_task_info(struct scrape *s, const char *name)
{
    for (size_t i = 0; s->names && i < s->ntasks; i++)
        buf_printf(&s->out, "%s{task=\"%s\",name=\"%s\"} 1\n", name, s->tasks[i].task->id, s->tasks[i].task->spec.name);
}

/* --- metrics of one value -------------------------------------------------------------------------------------------
 */

#define VALUE(function, expression)                                                                                    \
    static double function(const struct scrape *s)                                                                     \
    {                                                                                                                  \
        return (double)(expression);                                                                                   \
    }

VALUE(task_starts, registry_starts(s->api->registry))
VALUE(oom_kills, s->events->oom_kills)
VALUE(event_last, events_last(s->api->registry))
VALUE(event_followers, s->events->watchers)
VALUE(http_requests, s->http->requests)
VALUE(http_connections, s->http->connections_open)
VALUE(all_cpu, seconds(s->all.cpu_ns))
VALUE(all_memory, s->all.memory_bytes)
VALUE(all_pids, s->all.pids)
VALUE(tasks_omitted, s->omitted)
VALUE(process_cpu, s->cpu_seconds)
VALUE(process_resident, s->resident_bytes)
VALUE(process_virtual, s->virtual_bytes)
VALUE(process_open_fds, s->open_fds)
VALUE(process_max_fds, s->max_fds)
VALUE(process_start, seconds(s->api->started_at))

/* --- the table ------------------------------------------------------------------------------------------------------
 */

static const char counter[] = "counter", gauge[] = "gauge", histogram[] = "histogram";

static const struct metric {
    const char *name, *type, *help;
    double (*value)(const struct scrape *s);             /* the one sample, or */
    void (*samples)(struct scrape *s, const char *name); /* all samples */
} metrics[] = {
    {"cloister_build_info", gauge, "Version of the daemon.", NULL, put_build},
    {"cloister_driver_available", gauge, "Whether this host can run tasks.", NULL, put_driver},
    {"cloister_tasks", gauge, "Tasks by state.", NULL, put_states},
    {"cloister_task_starts_total", counter, "Tasks taken.", task_starts, NULL},
    {"cloister_task_failures_total", counter, "Tasks that never ran, by the step that failed.", NULL, put_failures},
    {"cloister_task_oom_kills_total", counter, "Processes of tasks killed for memory.", oom_kills, NULL},
    {"cloister_log_bytes_total", counter, "Output of tasks; of running ones told every 10 s while it comes.", NULL,
     put_log_bytes},
    {"cloister_events_total", counter, "Events by type.", NULL, put_events},
    {"cloister_event_last_number", gauge, "Number of the newest event.", event_last, NULL},
    {"cloister_event_followers", gauge, "Streams of events that are open.", event_followers, NULL},
    {"cloister_http_requests_total", counter, "Requests begun.", http_requests, NULL},
    {"cloister_http_responses_total", counter, "Responses by class of status.", NULL, put_responses},
    {"cloister_http_request_duration_seconds", histogram,
     "From a request to its reply, waiting asked for included; of a stream to its beginning.", NULL, put_latency},
    {"cloister_http_connections", gauge, "Open connections.", http_connections, NULL},
    {"cloister_loop_turn_duration_seconds", histogram, "Turns of the event loop: how long an event may wait.", NULL,
     put_turns},
    {"cloister_store_commit_duration_seconds", histogram, "Commits of the database.", NULL, put_commits},
    {"cloister_tasks_cpu_seconds_total", counter, "CPU time of all tasks, ended ones included.", all_cpu, NULL},
    {"cloister_tasks_memory_bytes", gauge, "Memory of all tasks.", all_memory, NULL},
    {"cloister_tasks_pids", gauge, "Processes and threads of all tasks.", all_pids, NULL},
    {"cloister_task_cpu_seconds_total", counter, "CPU time of a running task's present run.", NULL, put_task_cpu},
    {"cloister_task_memory_bytes", gauge, "Memory of a running task.", NULL, put_task_memory},
    {"cloister_task_pids", gauge, "Processes and threads of a running task.", NULL, put_task_pids},
    {"cloister_task_restarts_total", counter, "Starts of a running task after its first.", NULL, put_task_restarts},
    {"cloister_task_log_bytes_total", counter, "Output of a running task, as last told.", NULL, put_task_log_bytes},
    {"cloister_task_info", gauge, "Names of running tasks (role operator).", NULL, put_task_info},
    {"cloister_task_metrics_omitted", gauge, "Running tasks, the oldest, not told one by one.", tasks_omitted, NULL},
    {"process_cpu_seconds_total", counter, "CPU time of the server process.", process_cpu, NULL},
    {"process_resident_memory_bytes", gauge, "Resident memory of the server process.", process_resident, NULL},
    {"process_virtual_memory_bytes", gauge, "Virtual memory of the server process.", process_virtual, NULL},
    {"process_open_fds", gauge, "Open file descriptors of the server process.", process_open_fds, NULL},
    {"process_max_fds", gauge, "How many file descriptors it may open.", process_max_fds, NULL},
    {"process_start_time_seconds", gauge, "When the server process started, since the epoch.", process_start, NULL},
};

void metrics_get(struct request *q)
{
    struct scrape s = {0};
    size_t len;

    scrape_fill(&s, q);
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        const struct metric *m = &metrics[i];

        buf_printf(&s.out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->type);
        if (m->samples) {
            m->samples(&s, m->name);
        } else if (m->value(&s) >= 0) {
            buf_puts(&s.out, m->name);
            put_value(&s, m->value(&s));
        }
    }
    char *text = buf_take(&s.out, &len);
    scrape_free(&s);
    reply_data(q, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
}
