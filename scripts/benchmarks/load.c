// Bounded SMTP load on 127.0.0.1: one thread, epoll. Built and run by the benchmarks.
//
// load -p PORT [-b BEHAVIOUR] [-c CONNECTIONS] [-m MESSAGES] [-n MESSAGES_PER_CONNECTION]
//      [-l OCTETS_PER_MESSAGE] [-r RECIPIENTS] [-t SECONDS]
//
// Behaviours that send messages, and then end:
//   lockstep   every command waits for the reply to the one before
//   pipelined  MAIL, RCPT and DATA in one write (RFC 2920), then the message
//   joined     as pipelined, and a message and the next envelope in one write
//   quit       connect and QUIT; a "message" is a connection
// Behaviours that hold CONNECTIONS, print "holding" when all are there, and end by SIGTERM:
//   idle       says EHLO, and nothing more
//   drip       one octet a second: every other connection of commands, the others of a message
//   deaf       sends NOOP as fast as it is let, and never reads
//
// -n 0 (the default) sends all messages over CONNECTIONS connections. All end after -t seconds.
// The result is one JSON object on standard output. The time of a message is that from its first
// octet to the reply to its last one, and with -n 1 (and quit) from connect() on.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum behaviour { LOCKSTEP, PIPELINED, JOINED, QUIT, IDLE, DRIP, DEAF, BEHAVIOURS };
static const char *const names[BEHAVIOURS] = {"lockstep", "pipelined", "joined", "quit",
                                              "idle",     "drip",      "deaf"};

// What a connection waits for: replies to the greeting, to EHLO, to parts of a message, to QUIT;
// then the end of the connection. HELD waits for nothing.
enum phase { GREETING, HELLO, MESSAGE, LEAVING, CLOSING, HELD };

// One write, and how many replies it gets.
struct write {
    char *octets;
    size_t length;
    int replies;
};

struct connection {
    int fd;
    enum phase phase;
    long quota;              // messages that it may still begin
    int part;                // of the message: which is written next
    const char *out;         // what is not yet written of the current write
    size_t left;             // how much that is
    bool blocked;            // EPOLLOUT is asked for
    int awaited;             // replies to what was written
    bool answers_message;    // the next reply is that to a whole message
    double began;            // when the message was
    int column;              // in the reply line that is being read
    char code[4], separator; // of that line
};

enum { MAX_RECIPIENTS = 1000, MAX_OPENING = 64 };

static enum behaviour behaviour = PIPELINED;
static long port, connections = 20, messages = 1000, per_connection, octets = 4096, recipients = 1;
static long limit = 60;

static struct write ehlo, quit, noops, joined, parts[MAX_RECIPIENTS + 3];
static int part_count; // the last part is the message itself

static struct connection *all, **vacant;
static int poll_fd;
static long vacancies, opening, held, unassigned, opened, done, errors;
static float *times; // of each message, in seconds
static volatile sig_atomic_t stopped;

static double clock_seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static double now(void) { return clock_seconds(CLOCK_MONOTONIC); }
static void stop(int signal) { stopped = signal; }

static void die(const char *what, int error) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(error));
    exit(2);
}

static void append(struct write *to, const char *text, size_t length, int replies) {
    to->octets = realloc(to->octets, to->length + length);
    if (!to->octets) die("memory", errno);
    memcpy(to->octets + to->length, text, length);
    to->length += length;
    to->replies += replies;
}

static void command(struct write *to, const char *text) { append(to, text, strlen(text), 1); }

static void make_body(struct write *body) {
    static const char header[] = "From: <sender@example.org>\r\nTo: <user0@example.net>\r\n"
                                 "Subject: load\r\nMessage-ID: <1@load.example>\r\n\r\n";
    static const char line[] = "abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz "
                               "abcdefghijklmnopqrstuv\r\n";
    size_t length = (size_t)octets, whole = sizeof line - 1;
    append(body, header, sizeof header - 1, 0);
    while (body->length + whole <= length) append(body, line, whole, 0);
    if (body->length + 2 < length) {
        append(body, line, length - body->length - 2, 0);
        append(body, "\r\n", 2, 0);
    }
    append(body, ".\r\n", 3, 1);
}

static void make_parts(void) {
    char rcpt[64];
    struct write *part = parts;
    int next = behaviour == LOCKSTEP; // 1: each command is a part of its own
    command(part, "MAIL FROM:<sender@example.org>\r\n");
    for (int i = 0; i < recipients; i++) {
        snprintf(rcpt, sizeof rcpt, "RCPT TO:<user%d@example.net>\r\n", i);
        command(part += next, rcpt);
    }
    command(part += next, "DATA\r\n");
    make_body(++part);
    part_count = (int)(part - parts) + 1;
    append(&joined, part->octets, part->length, part->replies);
    append(&joined, parts->octets, parts->length, parts->replies);
    command(&ehlo, "EHLO load.example\r\n");
    command(&quit, "QUIT\r\n");
    for (int i = 0; i < 2000; i++) command(&noops, "NOOP\r\n");
}

// Ask epoll for what the connection waits for: a deaf one for room to write, and nothing else.
static void watch(struct connection *c, int operation) {
    bool deaf = behaviour == DEAF && c->phase == HELD;
    struct epoll_event event = {.events = deaf ? 0 : EPOLLIN, .data.ptr = c};
    c->blocked = c->left > 0;
    if (c->blocked || deaf) event.events |= EPOLLOUT;
    epoll_ctl(poll_fd, operation, c->fd, &event);
}

static void end(struct connection *c) {
    opening -= c->phase == GREETING;
    held -= c->phase == HELD;
    close(c->fd);
    c->fd = -1;
    vacant[vacancies++] = c;
}

static void fail(struct connection *c, const char *why) {
    if (errors++ < 5)
        fprintf(stderr, "load: %s (phase %d, last reply %s)\n", why, c->phase, c->code);
    end(c);
}

// Take up to `count` of the messages that nobody has taken.
static long take(long count) {
    if (count > unassigned) count = unassigned;
    unassigned -= count;
    return count;
}

static bool more(struct connection *c) {
    if (!c->quota && !per_connection) c->quota = take(1);
    return c->quota > 0;
}

static void connect_next(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct connection *c = vacant[--vacancies];
    *c = (struct connection){.phase = GREETING, .awaited = 1, .began = now()};
    c->quota = take(per_connection ? per_connection : 1);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (c->fd < 0) die("socket", errno);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (behaviour == DEAF) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
    opening++;
    opened++;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        return fail(c, strerror(errno));
    watch(c, EPOLL_CTL_ADD);
}

static void flush(struct connection *c) {
    while (c->left) {
        ssize_t n = send(c->fd, c->out, c->left, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return fail(c, strerror(errno));
        if (n < 0) break;
        c->out += n;
        c->left -= (size_t)n;
    }
    if (c->blocked != (c->left > 0)) watch(c, EPOLL_CTL_MOD);
}

static void put(struct connection *c, enum phase phase, const struct write *what) {
    c->phase = phase;
    c->out = what->octets;
    c->left = what->length;
    c->awaited = what->replies;
    flush(c);
}

static void hold(struct connection *c) {
    const struct write *slowly = c->phase == MESSAGE ? &parts[part_count - 1] : &noops;
    c->out = slowly->octets;
    c->left = behaviour == DRIP ? slowly->length : 0;
    c->phase = HELD;
    if (behaviour == DEAF) watch(c, EPOLL_CTL_MOD);
    if (++held == connections && puts("holding") >= 0) fflush(stdout);
}

static void put_part(struct connection *c) {
    const struct write *what = &parts[c->part++];
    if (c->part == part_count) {
        if (behaviour == DRIP) return hold(c);
        c->answers_message = true;
        if (behaviour == JOINED && more(c)) {
            c->quota--;
            c->part = part_count - 1;
            what = &joined;
        }
    }
    put(c, MESSAGE, what);
}

static void next_message(struct connection *c) {
    if (!more(c)) return put(c, LEAVING, &quit);
    c->quota--;
    c->part = 0;
    put_part(c);
}

// All replies are there that were waited for.
static void advance(struct connection *c) {
    switch (c->phase) {
    case GREETING:
        opening--;
        return behaviour == QUIT ? put(c, LEAVING, &quit) : put(c, HELLO, &ehlo);
    case HELLO:
        if (per_connection != 1) c->began = now();
        bool mails = behaviour < IDLE || (behaviour == DRIP && (c - all) % 2);
        return mails ? next_message(c) : hold(c);
    case MESSAGE: return c->part < part_count ? put_part(c) : next_message(c);
    default: c->phase = CLOSING;
    }
}

static void finished(struct connection *c) {
    double time = now();
    times[done++] = (float)(time - c->began);
    c->began = time; // the next one's, except on a new connection
    c->answers_message = false;
}

static void reply(struct connection *c) {
    if (c->phase == HELD) return;
    if (c->code[0] != '2' && c->code[0] != '3') return fail(c, "refused");
    if (c->answers_message || (behaviour == QUIT && c->phase == LEAVING)) finished(c);
    if (--c->awaited == 0) advance(c);
}

static void receive(struct connection *c) {
    static char buffer[65536];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0 && c->phase == CLOSING) return end(c);
    if (n <= 0) return fail(c, n ? strerror(errno) : "the server closed the connection");
    for (ssize_t i = 0; i < n && c->fd >= 0; i++) {
        if (buffer[i] == '\n') {
            c->column = 0;
            if (c->separator != '-') reply(c);
            continue;
        }
        if (c->column < 3) c->code[c->column] = buffer[i];
        if (c->column == 3) c->separator = buffer[i];
        c->column++;
    }
}

// Send an octet of each connection in a second, spread over it.
static void drip(double since) {
    static long turn;
    for (; turn < (long)((now() - since) * (double)connections); turn++) {
        struct connection *c = &all[turn % connections];
        if (c->fd < 0 || c->phase != HELD || !c->left) continue;
        c->left--;
        if (send(c->fd, c->out++, 1, MSG_NOSIGNAL) < 0) fail(c, strerror(errno));
    }
}

// Return how many seconds it took.
static double run(void) {
    struct epoll_event events[256];
    double start = now();
    while (!stopped && (vacancies < connections || unassigned) && now() - start < limit) {
        while (vacancies && unassigned && opening < MAX_OPENING) connect_next();
        int n = epoll_wait(poll_fd, events, 256, behaviour == DRIP ? 5 : 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && events[i].events & ~(unsigned)EPOLLOUT) receive(c);
            if (c->fd < 0 || !(events[i].events & EPOLLOUT)) continue;
            c->phase == HELD && !c->left ? put(c, HELD, &noops) : flush(c);
        }
        if (behaviour == DRIP) drip(start);
    }
    return now() - start;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile_ms(double share) {
    return done ? (double)times[(long)((double)(done - 1) * share)] * 1e3 : 0;
}

static enum behaviour named(const char *name) {
    for (int i = 0; i < BEHAVIOURS; i++)
        if (!strcmp(names[i], name)) return (enum behaviour)i;
    return BEHAVIOURS;
}

static void options(int count, char **values) {
    static const char letters[] = "pcmnlrt";
    long *const into[] = {&port,   &connections, &messages, &per_connection,
                          &octets, &recipients,  &limit};
    for (int letter; (letter = getopt(count, values, "b:p:c:m:n:l:r:t:")) != -1;) {
        const char *found = strchr(letters, letter);
        if (letter == '?') exit(2);
        if (found) *into[found - letters] = atol(optarg);
        if (letter == 'b') behaviour = named(optarg);
    }
    if (port < 1 || behaviour == BEHAVIOURS || connections < 1 || messages < 1 ||
        per_connection < 0 || octets < 0 || recipients < 1 || recipients > MAX_RECIPIENTS)
        die("options", EINVAL);
    if (behaviour >= QUIT) per_connection = 1;
    if (behaviour >= IDLE) messages = connections;
}

int main(int count, char **values) {
    options(count, values);
    signal(SIGTERM, stop);
    make_parts();
    unassigned = messages;
    all = calloc((size_t)connections, sizeof *all);
    vacant = calloc((size_t)connections, sizeof(struct connection *));
    times = calloc((size_t)messages, sizeof *times);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!all || !vacant || !times || poll_fd < 0) die("start", errno);
    for (; vacancies < connections; vacancies++) vacant[vacancies] = &all[vacancies];
    double seconds = run();
    qsort(times, (size_t)done, sizeof *times, ascending);
    printf("{\"messages\": %ld, \"errors\": %ld, \"connections\": %ld, \"held\": %ld, "
           "\"seconds\": %.4f, \"rate\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f, \"cpu_seconds\": %.4f}\n",
           done, errors, opened, held, seconds, (double)done / seconds, percentile_ms(0.5),
           percentile_ms(0.99), percentile_ms(1), clock_seconds(CLOCK_PROCESS_CPUTIME_ID));
    return errors > 0 || (behaviour < IDLE && done < messages);
}
