/*
 * Drives the native relay without Node, for the sanitizers: many tunnels at once over loopback, each with a random plan (sizes, chunks,
 * who ends first and how, budgets, sever, silence), from one seed. Exits with 1 at the first thing that is not as the plan allows.
 * usage: driver SEED TUNNELS
 */
#define _GNU_SOURCE
#include "../../../proxy/relay/relay.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 48
#define PATTERN 251
#define CHUNK 65536

static const char *const cause_names[] = {"both_ended", "idle", "limit_bytes", "severed", "client_error", "upstream_error"};

/* One far end: what it is to send, has sent and has heard. */
struct far {
  int fd;
  uint64_t to_send, sent, heard;
  uint64_t reset_after; /* bytes sent before it resets; UINT64_MAX for never */
  unsigned laziness;    /* reads once in so many rounds */
  bool has_reset, has_said_fin, is_over;
};

struct load {
  struct tunnel *tunnel; /* NULL once it was collected */
  struct far far[2];
  uint64_t budget[2];
  unsigned sever_in; /* rounds; 0 for never */
  bool is_silent;    /* sends no FIN, so that it must end idle */
  bool is_used, is_severed;
  struct relay_end end;
};

static uint64_t random_state;
static struct load loads[AT_ONCE];
static unsigned counts[6];
static char pattern[CHUNK + PATTERN], heard[CHUNK];
static _Atomic unsigned wakes;

static uint64_t random_below(uint64_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state % limit;
}

static void expect(bool is_right, const char *what) {
  if (is_right) return;
  fprintf(stderr, "driver: %s (%s)\n", what, strerror(errno));
  exit(1);
}

static void on_ended(void *context) {
  (void)context;
  atomic_fetch_add(&wakes, 1);
}

/* Both ends of one connection, non-blocking. */
static void connect_pair(int listener, int *near, int *far) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  expect(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
  *far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  expect(*far >= 0 && connect(*far, (struct sockaddr *)&address, length) == 0, "connect");
  *near = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  expect(*near >= 0 && fcntl(*far, F_SETFL, O_NONBLOCK) == 0, "accept");
}

static uint64_t random_size(void) {
  static const uint64_t limits[] = {1, 100, 70000, 3000000};
  return random_below(limits[random_below(4)]);
}

static void plan(struct load *load) {
  *load = (struct load){.is_used = true};
  for (int i = 0; i < 2; i++) {
    load->far[i].to_send = random_size();
    load->far[i].reset_after = random_below(8) == 0 ? random_below(load->far[i].to_send + 1) : UINT64_MAX;
    load->far[i].laziness = 1 + (unsigned)random_below(random_below(4) == 0 ? 20 : 2);
    load->budget[i] = random_below(6) == 0 ? random_size() : RELAY_NO_BUDGET;
  }
  load->sever_in = random_below(6) == 0 ? 1 + (unsigned)random_below(50) : 0;
  load->is_silent = random_below(12) == 0;
}

static void open_load(struct relay *relay, int listener, struct load *load) {
  int near[2];
  plan(load);
  for (int i = 0; i < 2; i++) connect_pair(listener, &near[i], &load->far[i].fd);
  struct relay_limits limits = {.budget = {load->budget[0], load->budget[1]}, .idle_ms = load->is_silent ? 30 : 60000};
  load->tunnel = relay_open(relay, near, load, &limits);
  expect(load->tunnel != NULL, "open");
}

static void reset_far(struct far *far) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(far->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(far->fd);
  far->has_reset = far->is_over = true;
}

static void speak(struct load *load, struct far *far) {
  if (far->is_over || far->has_said_fin) return;
  if (far->sent >= far->reset_after) {
    reset_far(far);
  } else if (far->sent < far->to_send) {
    uint64_t left = far->to_send - far->sent, most = 1 + random_below(CHUNK);
    ssize_t n = send(far->fd, pattern + far->sent % PATTERN, (size_t)(left < most ? left : most), MSG_NOSIGNAL);
    if (n > 0) far->sent += (uint64_t)n;
    else if (errno != EAGAIN) far->has_said_fin = true;
  } else if (!load->is_silent) {
    (void)shutdown(far->fd, SHUT_WR);
    far->has_said_fin = true;
  }
}

static void listen_to(struct far *far) {
  if (far->is_over || random_below(far->laziness) != 0) return;
  ssize_t n = recv(far->fd, heard, 1 + random_below(CHUNK), 0);
  if (n > 0) {
    expect(memcmp(heard, pattern + far->heard % PATTERN, (size_t)n) == 0, "bytes arrived changed or out of order");
    far->heard += (uint64_t)n;
  } else if (n == 0 || errno != EAGAIN) {
    /* Its own bytes may be under way yet: only the relay ends a tunnel. */
    far->laziness = n == 0 ? far->laziness : 1;
    if (n < 0) {
      close(far->fd);
      far->is_over = true;
    }
  }
}

/* An end that the plan does not explain is a bug of the relay. */
static bool is_explained(const struct load *load) {
  bool has_reset[] = {load->far[0].reset_after != UINT64_MAX, load->far[1].reset_after != UINT64_MAX};
  switch (load->end.cause) {
    case RELAY_BOTH_ENDED:
      return !load->is_silent || has_reset[0] || has_reset[1];
    case RELAY_IDLE:
      return load->is_silent;
    case RELAY_LIMIT_BYTES:
      return load->end.bytes[0] == load->budget[0] || load->end.bytes[1] == load->budget[1];
    case RELAY_SEVERED:
      return load->is_severed;
    case RELAY_CLIENT_ERROR:
      return has_reset[0];
    case RELAY_UPSTREAM_ERROR:
      return has_reset[1];
  }
  return false;
}

/* Reads what the relay left under way, then holds the end against the plan. */
static void judge(struct load *load) {
  for (int w = 0; w < 2; w++) {
    struct far *from = &load->far[w], *to = &load->far[!w];
    to->laziness = 1;
    while (!to->is_over) {
      struct pollfd wait = {.fd = to->fd, .events = POLLIN};
      uint64_t before = to->heard;
      expect(poll(&wait, 1, 10000) == 1, "a far end was neither closed nor reset");
      listen_to(to);
      if (!to->is_over && to->heard == before && (wait.revents & POLLIN)) {
        close(to->fd);
        to->is_over = true;
      }
    }
    expect(to->heard <= from->sent && to->heard <= load->end.bytes[w], "more was heard than was sent or counted");
    expect(load->end.bytes[w] <= load->budget[w], "more than the budget was handed over");
    expect(load->end.cause != RELAY_BOTH_ENDED || to->has_reset || to->heard == from->to_send, "a clean end lost bytes");
    expect(load->end.cause != RELAY_BOTH_ENDED || load->end.bytes[w] == from->sent, "a clean end counted wrongly");
  }
  if (!is_explained(load)) fprintf(stderr, "driver: the end was %s\n", cause_names[load->end.cause]);
  expect(is_explained(load), "an end that nobody caused");
  counts[load->end.cause]++;
  load->is_used = false;
}

static void collect(struct relay *relay) {
  struct relay_end end;
  for (struct load *load; (load = relay_collect(relay, &end)) != NULL;) {
    load->end = end;
    load->tunnel = NULL;
    judge(load);
  }
}

/* One round of a tunnel. */
static void live(struct relay *relay, struct load *load) {
  uint64_t bytes[2];
  for (int i = 0; i < 2; i++) {
    speak(load, &load->far[i]);
    listen_to(&load->far[i]);
  }
  relay_bytes(load->tunnel, bytes);
  expect(bytes[0] <= load->far[0].sent && bytes[1] <= load->far[1].sent, "more was counted than sent");
  if (load->sever_in > 0 && --load->sever_in == 0) {
    load->is_severed = true;
    relay_sever(relay, load->tunnel);
  }
}

/* A stop with tunnels open severs them, also those that are changing lanes. */
static void stop_midway(int listener) {
  struct relay *relay = relay_start(on_ended, NULL);
  expect(relay != NULL, "start");
  for (int i = 0; i < AT_ONCE; i++) {
    open_load(relay, listener, &loads[i]);
    loads[i].is_severed = true;
  }
  relay_flush(relay);
  for (uint64_t round = random_below(20); round > 0; round--)
    for (int i = 0; i < AT_ONCE; i++) live(relay, &loads[i]);
  relay_stop(relay);
  collect(relay);
  for (int i = 0; i < AT_ONCE; i++) expect(!loads[i].is_used, "a tunnel did not end with its relay");
  relay_free(relay);
}

static int open_files(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  expect(folder != NULL, "opendir");
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

int main(int argc, char **argv) {
  unsigned long seed = argc > 1 ? strtoul(argv[1], NULL, 10) : 1, left = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;
  random_state = seed * 2654435761u + 1;
  for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (char)(i % PATTERN);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  expect(bind(listener, (struct sockaddr *)&any, sizeof any) == 0 && listen(listener, 64) == 0, "listen");
  int before = open_files();
  struct relay *relay = relay_start(on_ended, NULL);
  expect(relay != NULL, "start");
  time_t moved_at = time(NULL);
  for (bool is_busy = true; is_busy;) {
    is_busy = left > 0;
    for (int i = 0; i < AT_ONCE; i++) {
      struct load *load = &loads[i];
      if (!load->is_used && left > 0) {
        open_load(relay, listener, load);
        left--;
      }
      if (load->is_used) live(relay, load);
      is_busy |= load->is_used;
    }
    relay_flush(relay);
    if (atomic_exchange(&wakes, 0) > 0) {
      collect(relay);
      moved_at = time(NULL);
    }
    expect(time(NULL) - moved_at < 60, "no tunnel has ended for a minute");
  }
  relay_stop(relay);
  relay_free(relay);
  for (int i = 0; i < 10; i++) stop_midway(listener);
  expect(open_files() == before, "descriptors are left");
  for (int i = 0; i < 6; i++) printf("%s %u ", cause_names[i], counts[i]);
  printf("(seed %lu)\n", seed);
  close(listener);
  return 0;
}
