// The far end of every tunnel: answers a ClientHello with a ServerHello, then echoes, sends or swallows bytes as the client asks. Two
// threads: bulk tunnels have one of their own, so that an echo never waits for them here.
// `upstream ADDRESS:PORT [BYTES]` (most bytes per second that one tunnel is sent; without it as fast as it can) prints `ready` when it listens, and when its stdin ends one JSON line of what it saw.
#define _GNU_SOURCE
#include "wire.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum phase { reading_hello, reading_want, echoing, sourcing, sinking };

struct tunnel {
  int fd;
  enum phase phase;
  size_t held; // of the hello
  uint64_t offset, reads;
  uint8_t bytes[hello_max];
};

static struct {
  _Atomic uint64_t accepted, open, hellos, echoed, sourced, sunk, wrong, errors;
} seen;
static uint8_t answer[hello_max];
static size_t answer_length;
static int epoll, bulk_epoll;
static uint64_t pace; // bytes per second of one tunnel that is sent to; 0 means no limit

static void end(struct tunnel *t) {
  close(t->fd);
  free(t);
  seen.open--;
}

// What a small write does not take at once is an error here: nothing that this side answers fills a socket.
static bool say(struct tunnel *t, const uint8_t *bytes, size_t length) {
  return send(t->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length;
}

// Each step returns false when the tunnel is over. `ended` says whether that is how it should end.
static bool read_hello(struct tunnel *t, bool *ended) {
  const size_t whole = record_length(t->bytes, t->held);
  if (whole > hello_max || (t->held > 0 && t->bytes[0] != 0x16)) return false;
  const size_t missing = (whole == 0 ? 5 : whole) - t->held;
  const ssize_t got = recv(t->fd, t->bytes + t->held, missing, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN;
  if (got == 0) *ended = t->held == 0; // a probe of the port
  if (got == 0) return false;
  t->held += (size_t)got;
  if (t->held < 5 || t->held < record_length(t->bytes, t->held)) return t->held < 5 ? true : read_hello(t, ended);
  seen.hellos++;
  t->phase = reading_want;
  return say(t, answer, answer_length);
}

static void add(int set, struct tunnel *t, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = t};
  if (epoll_ctl(set, EPOLL_CTL_ADD, t->fd, &event) != 0) die("epoll_ctl");
}

// From here on the other thread owns the tunnel.
static void move_to_bulk(struct tunnel *t, uint32_t events) {
  if (epoll_ctl(epoll, EPOLL_CTL_DEL, t->fd, NULL) != 0) die("epoll_ctl");
  add(bulk_epoll, t, events);
}

static void start_source(struct tunnel *t) {
  // TCP paces itself: no timer here, and no burst that a timer would make.
  if (pace > 0 && setsockopt(t->fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof pace) != 0) die("SO_MAX_PACING_RATE");
  move_to_bulk(t, EPOLLIN | EPOLLOUT);
}

static bool read_want(struct tunnel *t, bool *ended) {
  uint8_t want;
  const ssize_t got = recv(t->fd, &want, 1, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN;
  *ended = got == 0;
  if (got == 0) return false;
  t->phase = want == want_echo ? echoing : want == want_source ? sourcing : sinking;
  if (want == want_source) start_source(t);
  if (want == want_sink) move_to_bulk(t, EPOLLIN);
  return want == want_echo || want == want_source || want == want_sink;
}

static bool echo(struct tunnel *t, bool *ended) {
  uint8_t bytes[4096];
  const ssize_t got = recv(t->fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN;
  *ended = got == 0;
  if (got == 0) return false;
  seen.echoed += (uint64_t)got;
  return say(t, bytes, (size_t)got);
}

static bool source(struct tunnel *t, bool *ended) {
  uint8_t stop = 0;
  if (recv(t->fd, &stop, 1, MSG_DONTWAIT) >= 0) {
    *ended = stop == want_stop;
    return false;
  }
  const ssize_t sent = send_pattern(t->fd, t->offset);
  if (sent < 0) return errno == EAGAIN;
  t->offset += (uint64_t)sent;
  seen.sourced += (uint64_t)sent;
  return true;
}

static bool sink(struct tunnel *t, bool *ended) {
  uint64_t wrong = 0;
  const ssize_t got = receive_pattern(t->fd, t->offset, &t->reads, &wrong);
  seen.wrong += wrong;
  if (got < 0) return errno == EAGAIN;
  *ended = got == 0;
  if (got == 0) return false;
  t->offset += (uint64_t)got;
  seen.sunk += (uint64_t)got;
  return true;
}

static bool (*const steps[])(struct tunnel *, bool *) = {
    [reading_hello] = read_hello, [reading_want] = read_want, [echoing] = echo, [sourcing] = source, [sinking] = sink,
};

static void serve(struct tunnel *t) {
  bool ended = false;
  if (steps[t->phase](t, &ended)) return;
  if (!ended) seen.errors++;
  end(t);
}

static void accept_some(int listener) {
  for (int i = 0; i < 64; i++) {
    const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && errno == EAGAIN) return;
    if (fd < 0) {
      seen.errors++;
      return;
    }
    struct tunnel *t = calloc(1, sizeof *t);
    if (t == NULL) die("calloc");
    set_nodelay(fd);
    t->fd = fd;
    seen.accepted++;
    seen.open++;
    add(epoll, t, EPOLLIN);
  }
}

static int listen_on(const char *text) {
  const struct sockaddr_in address = read_address(text);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) die("listen");
  return fd;
}

static void *serve_bulk(void *unused) {
  (void)unused;
  for (;;) {
    struct epoll_event events[64];
    const int count = epoll_wait(bulk_epoll, events, 64, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < count; i++) serve(events[i].data.ptr);
  }
  return NULL;
}

static void report(void) {
  printf("{\"accepted\":%" PRIu64 ",\"open\":%" PRIu64 ",\"hellos\":%" PRIu64 ",\"echoed\":%" PRIu64 ",\"sourced\":%" PRIu64
         ",\"sunk\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"errors\":%" PRIu64 "}\n",
         seen.accepted, seen.open, seen.hellos, seen.echoed, seen.sourced, seen.sunk, seen.wrong, seen.errors);
}

int main(int argc, char **argv) {
  if (argc != 2 && argc != 3) {
    fputs("usage: upstream ADDRESS:PORT [BYTES]\n", stderr);
    return 64;
  }
  if (argc == 3) pace = strtoull(argv[2], NULL, 10);
  answer_length = server_hello(answer);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  bulk_epoll = epoll_create1(EPOLL_CLOEXEC);
  pattern_at(0); // made before there are two threads
  pthread_t bulk;
  if (pthread_create(&bulk, NULL, serve_bulk, NULL) != 0) die("pthread_create");
  const int listener = listen_on(argv[1]);
  // The two that are no tunnels are told apart by the address of what they own.
  int control = STDIN_FILENO;
  struct epoll_event to_listener = {.events = EPOLLIN, .data.ptr = &epoll}, to_control = {.events = EPOLLIN, .data.ptr = &control};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &to_listener) != 0) die("epoll_ctl");
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, control, &to_control) != 0) die("epoll_ctl of stdin");
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    const int count = epoll_wait(epoll, events, 256, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < count; i++) {
      if (events[i].data.ptr == &epoll) accept_some(listener);
      else if (events[i].data.ptr == &control) return report(), 0;
      else serve(events[i].data.ptr);
    }
  }
}
