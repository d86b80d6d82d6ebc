// What is done with open tunnels: one echo and close, bulk one way, echo after echo, or nothing. Opens none but through start_tunnel().
#define _GNU_SOURCE
#include "client.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_over(void) {
  return seen.began != 0 && now_ns() >= seen.began + settings.ms * 1000000u;
}

// The first message is led by what the tunnel is for.
static bool say_message(struct tunnel *t, bool is_first) {
  uint8_t bytes[1 + message_bytes] = {want_echo};
  memcpy(bytes + 1, pattern_at(t->offset), message_bytes);
  return is_first ? say(t, bytes, sizeof bytes) : say(t, bytes + 1, message_bytes);
}

// 1 when the whole echo is there and right, 0 when more is to come, -1 when the tunnel failed.
static int hear_message(struct tunnel *t) {
  errno = 0;
  const ssize_t got = recv(t->fd, t->bytes + t->held, message_bytes - t->held, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return 0;
  if (got <= 0) return fail(t, "the tunnel ended before the echo"), -1;
  t->held += (size_t)got;
  if (t->held < message_bytes) return 0;
  if (memcmp(t->bytes, pattern_at(t->offset), message_bytes) != 0) {
    seen.wrong++;
    return fail(t, "the echo is not what was said"), -1;
  }
  t->held = 0;
  t->offset += message_bytes;
  return 1;
}

static bool start_empty_places(void) {
  if (seen.began == 0) seen.began = now_ns();
  for (unsigned i = 0; i < tunnel_count && !is_over(); i++)
    if (tunnels[i].fd < 0 && seen.errors < 1000) start_tunnel(&tunnels[i]);
  if (seen.open == 0) seen.ended = now_ns();
  return seen.open > 0;
}

// --- tunnels: open, one echo, close, and again

static bool churn_ready(struct tunnel *t) {
  return say_message(t, true);
}

static bool churn_event(struct tunnel *t) {
  if (hear_message(t) <= 0) return true;
  seen.done++;
  add_sample(now_ns() - t->since);
  end_tunnel(t);
  if (!is_over()) start_tunnel(t);
  return true;
}

// --- round trips: echo after echo in every tunnel

static bool trips_ready(struct tunnel *t) {
  t->since = now_ns();
  return say_message(t, true);
}

static bool trips_event(struct tunnel *t) {
  if (hear_message(t) <= 0) return true;
  const uint64_t now = now_ns();
  add_sample(now - t->since);
  seen.done++;
  if (is_over()) return end_tunnel(t), true;
  t->since = now;
  return say_message(t, false);
}

static bool start_once(void) {
  if (seen.began == 0) return start_empty_places();
  if (seen.open == 0) seen.ended = now_ns();
  return seen.open > 0;
}

// --- bulk: every tunnel is opened first, then all start at once

static bool bulk_ready(struct tunnel *t) {
  t->is_idle = true;
  return true;
}

static bool all_are_idle(void) {
  for (unsigned i = 0; i < tunnel_count; i++)
    if (tunnels[i].fd < 0 || !tunnels[i].is_idle) return false;
  return true;
}

static void tell_all(uint8_t what, uint32_t events) {
  for (unsigned i = 0; i < tunnel_count; i++) {
    if (tunnels[i].fd < 0 || !say(&tunnels[i], &what, 1)) continue;
    tunnels[i].is_idle = false;
    watch(&tunnels[i], events);
  }
}

static bool bulk_ended(struct tunnel *t) {
  seen.done++;
  end_tunnel(t);
  return true;
}

static bool down_event(struct tunnel *t) {
  errno = 0;
  const ssize_t got = receive_pattern(t->fd, t->offset, &t->reads, &seen.wrong);
  if (got < 0 && errno == EAGAIN) return true;
  if (got < 0 || t->is_idle) return fail(t, "the tunnel ended before its bytes did");
  if (got == 0) return is_over() ? bulk_ended(t) : fail(t, "the tunnel ended before its bytes did");
  t->offset += (uint64_t)got;
  seen.bytes += (uint64_t)got;
  return true;
}

static bool up_event(struct tunnel *t) {
  uint8_t byte;
  errno = 0;
  const ssize_t got = recv(t->fd, &byte, 1, MSG_DONTWAIT);
  if (got == 0 && t->is_idle) return bulk_ended(t);
  if (got >= 0 || errno != EAGAIN) return fail(t, "the tunnel ended before its bytes did");
  if (t->is_idle) return true;
  if (is_over()) {
    t->is_idle = true;
    watch(t, EPOLLIN);
    shutdown(t->fd, SHUT_WR);
    return true;
  }
  const ssize_t sent = send_pattern(t->fd, t->offset);
  if (sent < 0) return errno == EAGAIN || fail(t, "the tunnel ended before its bytes did");
  t->offset += (uint64_t)sent;
  seen.bytes += (uint64_t)sent;
  return true;
}

static bool bulk_turn(uint8_t want, uint32_t events) {
  static bool opened, stopped;
  if (!opened) {
    opened = true;
    for (unsigned i = 0; i < tunnel_count; i++) start_tunnel(&tunnels[i]);
  }
  if (seen.began == 0 && all_are_idle()) {
    seen.began = now_ns();
    tell_all(want, events);
  }
  if (want == want_source && is_over() && !stopped) {
    stopped = true;
    tell_all(want_stop, EPOLLIN);
  }
  if (seen.open == 0) seen.ended = now_ns();
  return seen.open > 0;
}

static bool down_turn(void) {
  return bulk_turn(want_source, EPOLLIN);
}

static bool up_turn(void) {
  return bulk_turn(want_sink, EPOLLIN | EPOLLOUT);
}

// --- idle: opens tunnels up to each stage, says how many it holds, and goes on when stdin says so

static bool hold_event(struct tunnel *t) {
  if (t->is_idle) {
    seen.lost++;
    errno = 0;
    return fail(t, "an idle tunnel did not stay open");
  }
  if (hear_message(t) <= 0) return true;
  add_sample(now_ns() - t->since);
  t->is_idle = true;
  seen.done++;
  return true;
}

static bool told_to_go_on(void) {
  struct pollfd control = {.fd = STDIN_FILENO, .events = POLLIN};
  char line[16];
  return poll(&control, 1, 0) == 1 && read(STDIN_FILENO, line, sizeof line) >= 0;
}

static bool hold_turn(void) {
  static unsigned stage, started;
  static bool reported;
  if (seen.began == 0) seen.began = now_ns();
  const unsigned wanted = seen.errors > 0 ? started : settings.stages[stage];
  // INVARIANT: every started tunnel is open and idle, or on its way, or counted among the errors.
  const uint64_t settled = seen.done + (seen.errors - seen.lost);
  while (started < wanted && started - settled < settings.slots) start_tunnel(&tunnels[started++]);
  if (started < wanted || settled < started) return true;
  if (!reported) {
    seen.ended = now_ns();
    printf("{\"held\":%" PRIu64 "}\n", seen.done - seen.lost);
    fflush(stdout);
    reported = true;
  }
  seen.rests = !told_to_go_on();
  if (seen.rests) return true;
  reported = false;
  return seen.errors == 0 && settings.stages[++stage] != 0;
}

const struct workload workloads[] = {
    {"tunnels", churn_ready, churn_event, start_empty_places},
    {"trips", trips_ready, trips_event, start_once},
    {"down", bulk_ready, down_event, down_turn},
    {"up", bulk_ready, up_event, up_turn},
    {"hold", churn_ready, hold_event, hold_turn},
    {0},
};
