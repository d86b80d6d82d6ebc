// Opens one tunnel: connect, CONNECT and its answer, the two hellos; then hands it to the workload. Retries nothing.
#define _GNU_SOURCE
#include "client.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

extern int epoll;
extern const struct workload *workload;

bool fail(struct tunnel *t, const char *what) {
  if (seen.errors++ == 0) {
    if (errno == 0) snprintf(seen.first_error, sizeof seen.first_error, "%s", what);
    else snprintf(seen.first_error, sizeof seen.first_error, "%s: %s", what, strerror(errno));
  }
  if (t->fd >= 0) end_tunnel(t);
  return false;
}

void watch(struct tunnel *t, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = t};
  if (epoll_ctl(epoll, EPOLL_CTL_MOD, t->fd, &event) != 0) die("epoll_ctl");
}

void end_tunnel(struct tunnel *t) {
  close(t->fd);
  t->fd = -1;
  seen.open--;
}

bool say(struct tunnel *t, const void *bytes, size_t length) {
  errno = 0;
  const ssize_t sent = send(t->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == (ssize_t)length || fail(t, "a write to an open tunnel was not taken");
}

// The port is chosen at connect, by the whole four-tuple: with few source addresses many tunnels still fit.
static void bind_source(int fd) {
  static unsigned next;
  if (settings.sources == 0) return;
  const int on = 1;
  const uint32_t host = 0x7f000002u + next++ % settings.sources;
  const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host)};
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (bind(fd, (const struct sockaddr *)&from, sizeof from) != 0) die("bind");
}

void start_tunnel(struct tunnel *t) {
  memset(t, 0, offsetof(struct tunnel, bytes));
  t->since = now_ns();
  t->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (t->fd < 0) {
    fail(t, "socket");
    return;
  }
  seen.open++;
  set_nodelay(t->fd);
  bind_source(t->fd);
  if (connect(t->fd, (const struct sockaddr *)&settings.to, sizeof settings.to) != 0 && errno != EINPROGRESS) {
    fail(t, "connect");
    return;
  }
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = t};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, t->fd, &event) != 0) die("epoll_ctl");
}

static bool say_hello(struct tunnel *t) {
  static uint8_t hello[hello_max];
  static size_t length;
  if (length == 0) length = client_hello(hello, settings.name);
  t->phase = reading_answer;
  t->held = 0;
  return say(t, hello, length);
}

static bool on_connected(struct tunnel *t) {
  socklen_t size = sizeof errno;
  int problem = 0;
  getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
  errno = problem;
  if (problem != 0) return fail(t, "connect");
  watch(t, EPOLLIN);
  if (!settings.connects) return say_hello(t);
  char head[512];
  const int length =
      snprintf(head, sizeof head, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\n\r\n", settings.name, settings.name);
  t->phase = reading_status;
  return say(t, head, (size_t)length);
}

// Reads up to `until` bytes in all; false when the tunnel ended.
static bool gather(struct tunnel *t, size_t until, const char *what) {
  errno = 0;
  const ssize_t got = recv(t->fd, t->bytes + t->held, until - t->held, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return true;
  if (got <= 0) return fail(t, what);
  t->held += (size_t)got;
  return true;
}

static bool on_status(struct tunnel *t) {
  if (!gather(t, hello_max - 1, "the proxy ended before its answer")) return false;
  t->bytes[t->held] = 0;
  errno = 0;
  if (strstr((char *)t->bytes, "\r\n\r\n") == NULL)
    return t->held < hello_max - 1 || fail(t, "the proxy's answer has no end");
  char text[100];
  snprintf(text, sizeof text, "the proxy answered `%.60s`", strtok((char *)t->bytes, "\r\n"));
  return strstr(text, " 200") != NULL ? say_hello(t) : fail(t, text);
}

static bool on_answer(struct tunnel *t) {
  const size_t whole = record_length(t->bytes, t->held);
  errno = 0;
  if (whole > hello_max) return fail(t, "the answer to the hello is not the upstream's");
  if (!gather(t, whole == 0 ? 5 : whole, "the tunnel ended before the upstream's hello")) return false;
  if (t->held < 5) return true;
  if (t->held < record_length(t->bytes, t->held)) return whole != 0 || on_answer(t);
  errno = 0;
  uint8_t expected[hello_max];
  if (memcmp(t->bytes, expected, server_hello(expected)) != 0) return fail(t, "the upstream's hello was changed");
  t->phase = at_work;
  t->held = 0;
  return workload->ready(t);
}

void advance(struct tunnel *t) {
  switch (t->phase) {
    case connecting: on_connected(t); break;
    case reading_status: on_status(t); break;
    case reading_answer: on_answer(t); break;
    case at_work: workload->event(t); break;
  }
}
