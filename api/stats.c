/* GET /v1/tasks/{id}/stats: what a task uses now, once or at an interval; of an ended one what it has used. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "api/common.h"
#include "api/feed.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "isolation/processes.h"

enum { INTERVAL_USUAL_MS = 2000, INTERVAL_MIN_MS = 100, INTERVAL_MAX_MS = 3600000, PROCESSES_MAX = 1000 };

/* --- the document ---------------------------------------------------------------------------------------------------
 */

#define AT(member) offsetof(struct cgroup_stat, member)

static const struct {
    const char *group, *name;
    size_t offset; /* of an int64_t; -1 is told as null */
} numbers[] = {
    {"cpu", "total_ns", AT(usage.cpu_ns)},
    {"cpu", "user_ns", AT(usage.cpu_user_ns)},
    {"cpu", "system_ns", AT(usage.cpu_system_ns)},
    {"cpu", "periods", AT(usage.periods)},
    {"cpu", "throttled_periods", AT(usage.throttled_periods)},
    {"cpu", "throttled_ns", AT(usage.throttled_ns)},
    {"memory", "current_bytes", AT(usage.memory_bytes)},
    {"memory", "peak_bytes", AT(usage.memory_peak_bytes)},
    {"memory", "limit_bytes", AT(memory_limit_bytes)},
    {"memory", "anon_bytes", AT(usage.memory_anon_bytes)},
    {"memory", "file_bytes", AT(usage.memory_file_bytes)},
    {"memory", "kernel_bytes", AT(usage.memory_kernel_bytes)},
    {"memory", "swap_bytes", AT(usage.swap_bytes)},
    {"memory", "oom_kills", AT(usage.oom_kills)},
    {"io", "read_bytes", AT(usage.io_read_bytes)},
    {"io", "write_bytes", AT(usage.io_write_bytes)},
    {"io", "reads", AT(usage.io_reads)},
    {"io", "writes", AT(usage.io_writes)},
    {"pids", "current", AT(usage.pids)},
    {"pids", "peak", AT(usage.pids_peak)},
    {"pids", "limit", AT(pids_limit)},
};

static void put_numbers(struct json *j, const struct cgroup_stat *s)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int64_t v = *(const int64_t *)((const char *)s + numbers[i].offset);
        struct json *group = json_get(j, numbers[i].group);

        if (!group) {
            group = json_object();
            json_set(j, numbers[i].group, group);
        }
        json_set(group, numbers[i].name, v < 0 ? json_new_null() : json_new_int(v));
    }
}

static struct json *pressure_line(const struct cgroup_pressure *p)
{
    if (p->total_us < 0)
        return json_new_null();
    struct json *j = json_object();
    json_set(j, "avg10", json_new_double(p->avg10));
    json_set(j, "avg60", json_new_double(p->avg60));
    json_set(j, "avg300", json_new_double(p->avg300));
    json_set_int(j, "total_us", p->total_us);
    return j;
}

static struct json *pressure_view(const struct cgroup_stat *s)
{
    static const char *const names[] = {"cpu", "memory", "io"};
    struct json *j = json_object();

    for (int i = 0; i < CGROUP_PSI_COUNT; i++) {
        struct json *one = json_object();

        json_set(one, "some", pressure_line(&s->some[i]));
        json_set(one, "full", pressure_line(&s->full[i]));
        json_set(j, names[i], one);
    }
    return j;
}

/* A command line may hold any bytes, JSON only UTF-8. */
static void make_text(char *s)
{
    utf8_repair(s);
    for (; *s; s++)
        if ((unsigned char)*s < ' ')
            *s = '?';
}

static void put_processes(struct json *j, const struct cgroup_host *h, const char *id)
{
    _cleanup_free_ struct process_stat *list = xcalloc(PROCESSES_MAX, sizeof(*list));
    ssize_t n = processes_of(h, id, list, PROCESSES_MAX);
    struct json *all = json_array();

    for (ssize_t i = 0; i < n && i < PROCESSES_MAX; i++) {
        struct json *one = json_object();
        char state[2] = {list[i].state};

        make_text(list[i].command);
        json_set_int(one, "pid", list[i].ns_pid);
        json_set_int(one, "host_pid", list[i].pid);
        json_set_string(one, "command", list[i].command);
        json_set_string(one, "state", state);
        json_set_int(one, "rss_bytes", list[i].rss_bytes);
        json_set_int(one, "cpu_ns", list[i].cpu_ns);
        json_push(all, one);
    }
    json_set(j, "processes", all);
    json_set_int(j, "processes_total", n > 0 ? n : 0);
}

/* Between two runs, and after the last, it is what the last run has used. */
static struct json *stats_view(struct registry *r, const struct task *t, bool processes)
{
    const struct cgroup_host *h = registry_cgroups(r);
    struct json *j = json_object();
    struct cgroup_stat s;
    bool ended = task_ended(t) || t->state == TASK_RESTARTING;

    memset(&s, 0xff, sizeof(s)); /* -1 in every number: not known */
    if (!ended)
        cgroup_stat(h, t->id, &s);
    else if (t->status.exit.finished_at > 0 && t->state != TASK_LOST)
        s.usage = t->status.exit.usage;
    json_set_time(j, "time", clock_real_ns());
    json_set_string(j, "state", task_state_name(t->state));
    json_set_bool(j, "final", task_ended(t));
    put_numbers(j, &s);
    json_set(j, "pressure", ended ? json_new_null() : pressure_view(&s));
    if (processes && !ended)
        put_processes(j, h, t->id);
    return j;
}

/* --- following ------------------------------------------------------------------------------------------------------
 */

struct follower {
    struct registry *registry;
    char id[ID_LEN + 1];
    int64_t interval_ms;
    bool processes, due, over;
    struct feed feed;
    struct subscription *subscription;
    struct loop_source *timer;
};

static void follower_free(void *arg)
{
    struct follower *f = arg;

    registry_unsubscribe(f->subscription);
    loop_remove(f->timer);
    feed_close(&f->feed);
    free(f);
}

static void wake(struct follower *f)
{
    f->due = true;
    request_wake(f->feed.q);
}

static void on_timer(void *arg, uint32_t events)
{
    struct follower *f = arg;

    (void)events;
    f->timer = NULL;
    wake(f);
}

static void on_change(void *arg, struct task *t)
{
    struct follower *f = arg;

    if (strcmp(t->id, f->id) == 0 && (task_ended(t) || t->removal))
        wake(f);
}

/* A client that is slow to read gets fewer records, never old ones. */
static void give(struct follower *f, const struct task *t)
{
    _cleanup_json_ struct json *j = stats_view(f->registry, t, f->processes);
    _cleanup_free_ char *text = json_print(j);

    f->due = false;
    f->over = task_ended(t);
    feed_record(&f->feed, f->over ? "final" : NULL, text);
    if (!f->timer && !f->over)
        f->timer = loop_add_timer(request_loop(f->feed.q), f->interval_ms, on_timer, f);
}

static ssize_t on_read(void *arg, char *out, size_t cap)
{
    struct follower *f = arg;
    ssize_t n = feed_read(&f->feed, out, cap);

    if (n > 0 || !f->due)
        return n > 0 || !f->over ? n : -1;
    const struct task *t = registry_find(f->registry, f->id);
    if (!t || f->over)
        return -1;
    give(f, t);
    return feed_read(&f->feed, out, cap);
}

static void follow(struct request *q, const struct task *t, enum feed_format format, int64_t interval_ms,
                   bool processes)
{
    struct follower *f = xcalloc(1, sizeof(*f));

    *f = (struct follower){
        .registry = request_registry(q), .interval_ms = interval_ms, .processes = processes, .due = true};
    memcpy(f->id, t->id, sizeof(f->id));
    feed_open(&f->feed, q, format);
    f->subscription = registry_subscribe(f->registry, on_change, f);
    request_on_end(q, follower_free, f);
    feed_reply(&f->feed, (struct stream){.read = on_read, .arg = f});
}

void task_stats(struct request *q)
{
    struct err e = {0};
    enum feed_format format;
    int64_t interval = INTERVAL_USUAL_MS;
    bool streams, processes;
    const char *last = request_header(q, "Last-Event-ID");
    struct task *t = request_task(q);

    if (!t)
        return;
    if (feed_options(q, &format, &streams, &e) == 0 && query_bool(q, "processes", &processes, &e) == 0 &&
        query_duration(q, "interval", &interval, &e) == 0 && (interval < INTERVAL_MIN_MS || interval > INTERVAL_MAX_MS))
        bad_parameter(&e, "interval", request_query(q, "interval", 0));
    if (e.status)
        reply_problem(q, &e);
    else if (last && strcmp(last, "final") == 0 && task_ended(t))
        reply_empty(q, 204); /* an EventSource comes back after the end: this tells it to stop (WHATWG HTML, 9.2.3) */
    else if (streams)
        follow(q, t, format, interval, processes);
    else
        reply_json(q, 200, stats_view(request_registry(q), t, processes));
}
