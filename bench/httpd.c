/* A bare libmicrohttpd program: one thread, epoll, the same answer to every GET. Usage: httpd PORT. It ends when its
 * standard input does. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char body[] = "{\"name\":\"driver.exec\",\"value\":\"1\"}";

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **state)
{
    static int seen;

    (void)arg, (void)url, (void)method, (void)version, (void)data, (void)size;
    if (!*state) { /* the first call is before the body */
        *state = &seen;
        return MHD_YES;
    }
    struct MHD_Response *r =
        MHD_create_response_from_buffer(strlen(body), (void *)(size_t)body, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, "Content-Type", "application/json");
    enum MHD_Result result = MHD_queue_response(c, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return result;
}

int main(int argc, char **argv)
{
    char c;

    if (argc != 2)
        return 2;
    struct MHD_Daemon *d =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t)strtoul(argv[1], NULL, 10), NULL,
                         NULL, on_request, NULL, MHD_OPTION_END);
    if (!d)
        return 1;
    while (read(0, &c, 1) > 0)
        ;
    MHD_stop_daemon(d);
    return 0;
}
