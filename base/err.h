/* One error type: it carries a failure from the failing system call to the JSON reply. */
#ifndef CLOISTER_BASE_ERR_H
#define CLOISTER_BASE_ERR_H

/* Plain data without pointers, so that it can cross a pipe or a socket as it is. status 0 = no error. */
struct err {
    int status;       /* HTTP status that the failure maps to */
    int errnum;       /* errno of the failing call, or 0 */
    char code[32];    /* stable snake_case word, "invalid_field" */
    char step[32];    /* isolation step that failed, or "" */
    char pointer[96]; /* RFC 6901 pointer to the field at fault, or "" */
    char detail[288]; /* sentence for people */
};

/* Each fills *e and returns -1, so that a caller can `return err_set(...)`. Detail longer than the array is cut. */
int err_set(struct err *e, int status, const char *code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* A field of the request is bad: status 422, code "invalid_field". pointer is an RFC 6901 JSON pointer. */
int err_field(struct err *e, const char *pointer, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* An isolation step failed with errnum: status 500, code "isolation_failed"; ": ENAME" is appended to the detail. */
int err_step(struct err *e, const char *step, int errnum, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* One that another process has sent: its texts are made to have an end. */
void err_terminate(struct err *e);
/* The symbolic name of an errno ("ENOENT"); "E?" when unknown. Static storage. */
const char *err_errno_name(int errnum);

#endif
