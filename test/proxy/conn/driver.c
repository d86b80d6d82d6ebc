/*
 * Drives the set-up engine without Node, for the sanitizers: many connections at once over loopback, accepted and dialled, each with a random
 * plan (sizes, wishes, looks, silence, who ends first and how), buffers that overflow, and now and then no descriptor left. One seed, one load.
 * Exits with 1 at the first thing that is not as the plan allows. One thread, as in Node: there is no race to look for.
 * usage: driver SEED CONNECTIONS
 */
#define _GNU_SOURCE
#include "../../../proxy/conn/engine.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 64
#define PATTERN 251
#define CHUNK 65536
#define MAX_IDS 4096
#define MOST_EVENTS 64
#define MOST_ARENA 65536

enum { CLEAN, CUT_SHORT, REFUSED, TURNED_AWAY, OUTCOMES };
static const char *const outcomes[] = {"clean", "cut_short", "refused", "turned_away"};

/* The end of a connection that is a plain socket. */
struct far {
  int fd, listener; /* -1 for none */
  uint16_t port;    /* by which an accepted connection is known */
  uint64_t to_send, sent, heard;
  uint64_t reset_after; /* bytes sent before it resets; UINT64_MAX for never */
  unsigned laziness;    /* reads once in so many rounds */
  bool has_reset, has_finished, has_heard_end;
};

/* The end that the engine has. */
struct near {
  int32_t id; /* -1 before it is known and after it is closed */
  uint64_t to_send, sent, heard;
  unsigned laziness, reset_in; /* rounds; 0 for never */
  bool is_connected, is_closed, has_reset;
  bool has_wish, waits, has_finished, has_heard_end, was_hung, was_gone;
  struct engine_wish wish;
};

struct load {
  struct far far;
  struct near near;
  bool is_used, is_dialled, is_refused, was_turned_away;
};

static uint64_t random_state;
static struct load loads[AT_ONCE];
static unsigned counts[OUTCOMES], batch, accept_failures, pauses;
static uint8_t pattern[CHUNK + PATTERN], heard[CHUNK], *arena;
static int32_t *events;
static struct load *owners[MAX_IDS]; /* by id */
static unsigned closed_in[MAX_IDS];  /* the batch in which an id was given up, for those that may be named yet */
static bool is_in_batch;

static uint64_t random_below(uint64_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state % limit;
}

static bool once_in(uint64_t times) { return random_below(times) == 0; }

static void expect(bool is_right, const char *what) {
  if (is_right) return;
  fprintf(stderr, "driver: %s (%s)\n", what, strerror(errno));
  exit(1);
}

static uint64_t random_size(void) {
  static const uint64_t limits[] = {1, 100, 20000, 1000000};
  return random_below(limits[random_below(4)]);
}

/* ---- the engine's end ---- */

static void own(struct load *load, int32_t id) {
  expect(id >= 0 && id < MAX_IDS && owners[id] == NULL, "an id that is in use was given again");
  expect(!is_in_batch || closed_in[id] != batch, "an id was used again in the batch that had closed it");
  owners[id] = load;
  load->near.id = id;
}

static void give_up(struct load *load) {
  owners[load->near.id] = NULL;
  if (is_in_batch) closed_in[load->near.id] = batch;
  load->near.id = -1;
  load->near.has_wish = load->near.waits = load->near.was_hung = load->near.was_gone = false;
}

static void close_near(struct engine *engine, struct load *load, bool is_reset) {
  expect(engine_close(engine, load->near.id, is_reset) == 0, "close");
  give_up(load);
  load->near.is_closed = true;
  load->near.has_reset |= is_reset;
}

/* The end of what the far end said: all of it, and it has said so. */
static void hear_end(struct load *load, uint64_t unread) {
  expect(load->far.has_finished && load->far.sent == load->near.heard + unread, "a FIN that was not sent, or bytes lost before it");
}

static void lose(struct engine *engine, struct load *load, int error) {
  expect(error != EAGAIN && (load->far.has_reset || load->near.has_reset), "a connection was lost that nobody had cut");
  close_near(engine, load, once_in(2));
}

/* An answer to a wish: now, or by an event. */
static void hear(struct engine *engine, struct load *load, const uint8_t *bytes, int32_t n) {
  struct near *near = &load->near;
  near->has_wish = n == -EAGAIN;
  if (n == -EAGAIN) return;
  if (n < 0) {
    lose(engine, load, -n);
    return;
  }
  expect((uint32_t)n <= near->wish.max_bytes, "more bytes than asked for");
  expect(n == 0 || memcmp(bytes, pattern + near->heard % PATTERN, (size_t)n) == 0, "bytes arrived changed or out of order");
  if (near->wish.is_peek) {
    if ((uint32_t)n <= near->wish.beyond) hear_end(load, (uint64_t)n);
    else expect(near->heard + (uint64_t)n <= load->far.sent, "a look at more than was sent");
    /* As a parser does that needs more. */
    near->wish.beyond = (uint32_t)n;
    return;
  }
  near->heard += (uint64_t)n;
  if (n == 0) hear_end(load, 0);
  if (n == 0) near->has_heard_end = true;
}

static void wish(struct engine *engine, struct load *load) {
  struct near *near = &load->near;
  uint32_t beyond = near->wish.is_peek && once_in(2) ? near->wish.beyond : 0;
  near->wish = (struct engine_wish){.max_bytes = 1 + (uint32_t)random_below(once_in(3) ? 16 : CHUNK)};
  near->wish.is_peek = once_in(4);
  near->wish.beyond = near->wish.is_peek ? beyond : 0;
  int32_t n = engine_read(engine, near->id, &near->wish);
  if (n == -EINVAL) {
    expect(near->wish.is_peek, "a plain wish was called impossible");
    near->wish.is_peek = false;
    return;
  }
  hear(engine, load, arena, n);
}

static void speak_near(struct engine *engine, struct load *load) {
  struct near *near = &load->near;
  if (near->waits || near->has_finished) return;
  if (near->sent == near->to_send) {
    near->has_finished = true;
    int32_t result = engine_finish(engine, near->id);
    expect(result == 0 || load->far.has_reset, "finish");
    return;
  }
  uint64_t left = near->to_send - near->sent, most = 1 + random_below(CHUNK);
  uint32_t count = (uint32_t)(left < most ? left : most);
  int32_t n = engine_write(engine, near->id, pattern + near->sent % PATTERN, count);
  if (n < 0) {
    lose(engine, load, -n);
    return;
  }
  near->sent += (uint64_t)n;
  if ((uint32_t)n == count && !once_in(8)) return;
  expect(engine_want_write(engine, near->id) == 0, "want_write");
  near->waits = true;
}

/* A wish whose answer is in this batch already cannot be taken back. */
static void take_back(struct engine *engine, struct near *near) {
  if (!near->has_wish) return;
  int32_t result = engine_unread(engine, near->id);
  expect(result == 1 || (result == 0 && is_in_batch), "a wish got lost");
  near->has_wish = result == 0;
}

/* To the caller and back: what the engine knew of it is learnt anew. */
static void pass_around(struct engine *engine, struct load *load) {
  take_back(engine, &load->near);
  if (load->near.has_wish) return;
  int32_t id = load->near.id, fd = engine_release(engine, id);
  expect(fd >= 0 && engine_close(engine, id, false) == -EBADF, "release");
  give_up(load);
  id = engine_adopt(engine, fd);
  expect(id >= 0, "adopt");
  own(load, id);
}

/* One round of the engine's end. */
static void live_near(struct engine *engine, struct load *load) {
  struct near *near = &load->near;
  if (near->id < 0 || !near->is_connected || !once_in(near->laziness)) return;
  if (near->reset_in > 0 && --near->reset_in == 0) {
    close_near(engine, load, true);
    return;
  }
  if (once_in(40)) pass_around(engine, load);
  if (near->wish.is_peek && once_in(3)) take_back(engine, near);
  if (!near->has_wish && !near->has_heard_end) wish(engine, load);
  if (near->id >= 0) speak_near(engine, load);
  if (near->id >= 0 && near->has_finished && near->has_heard_end) close_near(engine, load, false);
}

/* ---- the far end ---- */

static void close_far(struct far *far) {
  if (far->fd >= 0) close(far->fd);
  if (far->listener >= 0) close(far->listener);
  far->fd = far->listener = -1;
}

static void reset_far(struct far *far) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(far->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close_far(far);
  far->has_reset = true;
}

static void speak_far(struct far *far) {
  if (far->has_finished) return;
  if (far->sent >= far->reset_after) {
    reset_far(far);
  } else if (far->sent < far->to_send) {
    uint64_t left = far->to_send - far->sent, most = 1 + random_below(once_in(2) ? 20 : CHUNK);
    ssize_t n = send(far->fd, pattern + far->sent % PATTERN, (size_t)(left < most ? left : most), MSG_NOSIGNAL);
    if (n > 0) far->sent += (uint64_t)n;
    else if (errno != EAGAIN) far->has_heard_end = far->has_finished = true;
  } else {
    far->has_finished = true;
    (void)shutdown(far->fd, SHUT_WR);
  }
}

static void listen_far(struct load *load) {
  struct far *far = &load->far;
  if (!once_in(far->laziness)) return;
  ssize_t n = recv(far->fd, heard, 1 + random_below(CHUNK), 0);
  if (n > 0) {
    expect(memcmp(heard, pattern + far->heard % PATTERN, (size_t)n) == 0, "bytes were written changed or out of order");
    far->heard += (uint64_t)n;
    expect(far->heard <= load->near.sent, "more was heard than written");
  } else if (n == 0 || errno != EAGAIN) {
    far->has_heard_end = true;
  }
}

static void live_far(struct load *load) {
  struct far *far = &load->far;
  if (far->fd < 0 && far->listener >= 0) {
    far->fd = accept4(far->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    /* Who was reset in the queue may never come out of it. */
    if (far->fd < 0 && load->near.is_closed) close_far(far);
  }
  if (far->fd < 0) return;
  speak_far(far);
  if (far->fd >= 0) listen_far(load);
  if (far->fd < 0 || !far->has_heard_end || !(far->has_finished || load->near.is_closed)) return;
  /* Only its socket tells a far end that nobody took it. */
  load->was_turned_away = !load->is_dialled && load->near.id < 0 && !load->near.is_closed;
  expect(!load->was_turned_away || accept_failures > 0, "a client was turned away without need");
  close_far(far);
}

/* ---- a connection from beginning to end ---- */

static int listen_anywhere(uint16_t *port) {
  int fd = listening_fd("127.0.0.1", 0, once_in(2), 512);
  expect(fd >= 0, "listening_fd");
  *port = (uint16_t)port_of(fd);
  return fd;
}

static void dial(struct engine *engine, struct load *load) {
  uint16_t port;
  load->far.listener = listen_anywhere(&port);
  if (load->is_refused) close_far(&load->far);
  int32_t id = engine_connect(engine, "127.0.0.1", port);
  expect(id >= 0, "connect");
  own(load, id);
}

static void call(struct load *load, uint16_t port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  load->far.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  expect(load->far.fd >= 0 && connect(load->far.fd, (struct sockaddr *)&to, sizeof to) == 0, "call");
  expect(fcntl(load->far.fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
  load->far.port = (uint16_t)port_of(load->far.fd);
}

static void begin(struct engine *engine, struct load *load, uint16_t port) {
  *load = (struct load){.is_used = true, .is_dialled = once_in(2)};
  load->is_refused = load->is_dialled && once_in(10);
  load->far = (struct far){.fd = -1, .listener = -1, .to_send = random_size(), .laziness = 1 + (unsigned)random_below(once_in(4) ? 20 : 2)};
  load->far.reset_after = once_in(6) ? random_below(load->far.to_send + 1) : UINT64_MAX;
  load->near = (struct near){.id = -1, .to_send = random_size(), .laziness = 1 + (unsigned)random_below(once_in(4) ? 20 : 2)};
  load->near.reset_in = once_in(8) ? 1 + (unsigned)random_below(20) : 0;
  if (load->is_dialled) dial(engine, load);
  else call(load, port);
  /* Some have spoken, or are gone again, before anybody takes them. */
  if (!load->is_dialled && once_in(2)) live_far(load);
}

static void judge(struct load *load) {
  struct near *near = &load->near;
  struct far *far = &load->far;
  bool is_cut = far->has_reset || near->has_reset;
  expect(load->is_refused || load->was_turned_away || is_cut || (near->heard == far->to_send && far->heard == near->to_send), "a clean end lost bytes");
  counts[load->is_refused ? REFUSED : load->was_turned_away ? TURNED_AWAY : is_cut ? CUT_SHORT : CLEAN]++;
  load->is_used = false;
}

static bool is_over(const struct load *load) {
  return load->far.fd < 0 && load->far.listener < 0 && (load->near.is_closed || load->was_turned_away || (load->near.id < 0 && load->far.has_reset && !load->is_dialled));
}

/* ---- events ---- */

static struct load *caller_at(int32_t offset, int32_t length) {
  char text[128], from[64], to[64];
  unsigned from_port = 0, to_port = 0;
  expect(length > 0 && length < (int32_t)sizeof text, "an address that is too long, or none");
  memcpy(text, arena + offset, (size_t)length);
  text[length] = '\0';
  expect(sscanf(text, "%63s %u %63s %u", from, &from_port, to, &to_port) == 4 && strcmp(from, "127.0.0.1") == 0, "an address that is none");
  for (int i = 0; i < AT_ONCE; i++)
    if (loads[i].is_used && !loads[i].is_dialled && loads[i].near.id < 0 && !loads[i].near.is_closed && loads[i].far.port == from_port) return &loads[i];
  /* It has reset and was judged before it was taken. */
  return NULL;
}

static void on_accept(struct engine *engine, const int32_t *event) {
  struct load *load = caller_at(event[2], event[3]);
  if (load == NULL) {
    expect(engine_close(engine, event[1], false) == 0, "close");
    closed_in[event[1]] = batch;
    return;
  }
  own(load, event[1]);
  load->near.is_connected = true;
  /* As listen() was told. */
  load->near.wish = (struct engine_wish){.max_bytes = 4096};
  const int32_t *next = event + ENGINE_EVENT_FIELDS;
  load->near.has_wish = next[1] == event[1] && (next[0] == ENGINE_DATA || next[0] == ENGINE_FAILED);
}

static void on_connected(struct engine *engine, struct load *load, int error) {
  expect(!load->near.is_connected, "connected twice");
  load->near.is_connected = true;
  if (error == 0) expect(!load->is_refused, "connected to nobody");
  else if (load->is_refused) expect(error == ECONNREFUSED, "refused in another way");
  if (error == 0) return;
  if (load->is_refused) close_near(engine, load, false);
  else lose(engine, load, error);
}

static void on_hup(struct load *load, int32_t unread) {
  expect(!load->near.has_wish && !load->near.was_hung, "a FIN told twice, or beside a wish");
  load->near.was_hung = true;
  /* Some may have been read since the batch was made. */
  expect(load->far.has_finished && load->near.heard + (uint64_t)unread >= load->far.sent, "a FIN that was not sent, or bytes lost before it");
}

static void on_gone(struct engine *engine, struct load *load, int error) {
  expect(!load->near.has_wish && !load->near.was_gone, "an end told twice, or beside a wish");
  load->near.was_gone = true;
  if (error != 0) lose(engine, load, error);
  else expect(load->near.has_finished && load->far.has_finished, "a clean end that was none");
}

static void on_event(struct engine *engine, const int32_t *event) {
  int32_t id = event[1];
  if (event[0] == ENGINE_ACCEPT_FAILED) {
    accept_failures++;
    return;
  }
  if (event[0] == ENGINE_ACCEPT) {
    on_accept(engine, event);
    return;
  }
  struct load *load = owners[id];
  if (load == NULL) {
    expect(closed_in[id] == batch, "an event for an id that nobody has");
    return;
  }
  bool is_answer = event[0] == ENGINE_DATA || event[0] == ENGINE_FAILED;
  if (event[0] == ENGINE_CONNECTED) on_connected(engine, load, event[2]);
  else if (is_answer) hear(engine, load, arena + event[2], event[0] == ENGINE_FAILED ? -event[2] : event[3]);
  else if (event[0] == ENGINE_HUP) on_hup(load, event[2]);
  else if (event[0] == ENGINE_GONE) on_gone(engine, load, event[2]);
  else load->near.waits = false;
}

static void take_batch(struct engine *engine, uint32_t count) {
  int32_t copy[(MOST_EVENTS + 1) * ENGINE_EVENT_FIELDS] = {0};
  memcpy(copy, events, count * ENGINE_EVENT_FIELDS * sizeof *events);
  batch++;
  is_in_batch = true;
  for (uint32_t i = 0; i < count; i++) {
    on_event(engine, copy + i * ENGINE_EVENT_FIELDS);
    /* Somebody else is served, begun or ended meanwhile, as handlers do. */
    struct load *other = &loads[random_below(AT_ONCE)];
    if (other->is_used && once_in(2)) live_near(engine, other);
  }
  is_in_batch = false;
}

/* What everybody waits for, when nothing happens any more. */
static void describe(const struct load *load) {
  const struct near *near = &load->near;
  const struct far *far = &load->far;
  fprintf(stderr, "far: fd %d listener %d to_send %zu sent %zu heard %zu reset %d finished %d heard_end %d\n", far->fd, far->listener,
          (size_t)far->to_send, (size_t)far->sent, (size_t)far->heard, far->has_reset, far->has_finished, far->has_heard_end);
  fprintf(stderr, "near: id %d to_send %zu sent %zu heard %zu connected %d closed %d wish %d (%u peek %d beyond %u) waits %d finished %d heard_end %d\n",
          near->id, (size_t)near->to_send, (size_t)near->sent, (size_t)near->heard, near->is_connected, near->is_closed, near->has_wish,
          near->wish.max_bytes, near->wish.is_peek, near->wish.beyond, near->waits, near->has_finished, near->has_heard_end);
}

static bool is_due(const struct engine *engine) {
  struct pollfd wait = {.fd = engine_fd(engine), .events = POLLIN};
  return engine_has_more(engine) || poll(&wait, 1, 0) > 0;
}

static void turn(struct engine *engine) {
  if (!is_due(engine)) return;
  bool is_more = true;
  for (int round = 0; round < 4 && is_more; round++) {
    uint32_t count = engine_gather(engine, round == 0);
    take_batch(engine, count);
    engine_settle(engine);
    is_more = engine_has_more(engine);
  }
}

/* ---- no descriptor left ---- */

static int open_files(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  expect(folder != NULL, "opendir");
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

/* A turn with every descriptor taken, or with the limit below the spare one. Whoever waits to be accepted is turned away, or waits on. */
static void starve(struct engine *engine) {
  int fillers[1024], count = 0;
  struct rlimit limit, low;
  getrlimit(RLIMIT_NOFILE, &limit);
  low = (struct rlimit){.rlim_cur = once_in(3) ? 3 : 1000, .rlim_max = limit.rlim_max};
  setrlimit(RLIMIT_NOFILE, &low);
  while (count < 1024 && (fillers[count] = dup(0)) >= 0) count++;
  if (is_due(engine)) {
    take_batch(engine, engine_gather(engine, true));
    engine_settle(engine);
  }
  while (count > 0) close(fillers[--count]);
  setrlimit(RLIMIT_NOFILE, &limit);
  pauses += engine_is_paused(engine);
}

static void live(struct engine *engine, struct load *load) {
  if (load->far.fd >= 0 || load->far.listener >= 0) live_far(load);
  live_near(engine, load);
  if (is_over(load)) judge(load);
}

static struct engine *create_engine(void) {
  struct engine_buffers buffers = {.room = 2 + (uint32_t)random_below(MOST_EVENTS - 2), .size = ENGINE_MIN_ARENA << random_below(8)};
  /* Of exactly this size, so that the sanitizer sees a step beyond. */
  events = malloc(buffers.room * ENGINE_EVENT_FIELDS * sizeof *events);
  arena = malloc(buffers.size);
  expect(events != NULL && arena != NULL, "malloc");
  buffers.events = events;
  buffers.arena = arena;
  struct engine *engine = engine_create(&buffers);
  expect(engine != NULL, "create");
  return engine;
}

int main(int argc, char **argv) {
  unsigned long seed = argc > 1 ? strtoul(argv[1], NULL, 10) : 1, left = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;
  random_state = seed * 2654435761u + 1;
  for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (uint8_t)(i % PATTERN);
  int before = open_files();
  struct engine *engine = create_engine();
  uint16_t port;
  int32_t listener = engine_listen(engine, listen_anywhere(&port), 4096);
  expect(listener >= 0, "listen");
  time_t ended_at = time(NULL);
  unsigned long ended = 0;
  for (bool is_busy = true; is_busy;) {
    is_busy = left > 0;
    for (int i = 0; i < AT_ONCE; i++) {
      struct load *load = &loads[i];
      if (!load->is_used && left > 0 && left--) begin(engine, load, port);
      if (load->is_used) live(engine, load);
      is_busy |= load->is_used;
    }
    if (once_in(50)) starve(engine);
    if (engine_is_paused(engine) && once_in(3)) engine_revive(engine);
    turn(engine);
    unsigned long now = 0;
    for (int i = 0; i < OUTCOMES; i++) now += counts[i];
    if (now != ended) ended_at = time(NULL);
    ended = now;
    for (int i = 0; i < AT_ONCE && time(NULL) - ended_at >= 30; i++)
      if (loads[i].is_used) describe(&loads[i]);
    expect(time(NULL) - ended_at < 30, "no connection has ended for half a minute");
  }
  /* A stop with connections open. */
  for (int i = 0; i < AT_ONCE; i++) begin(engine, &loads[i], port);
  turn(engine);
  engine_stop(engine);
  expect(engine_listen(engine, 0, 0) == -EBADF && engine_close(engine, listener, false) == -EBADF, "a call after stop");
  engine_free(engine);
  for (int i = 0; i < AT_ONCE; i++) close_far(&loads[i].far);
  expect(open_files() == before, "descriptors are left");
  free(events);
  free(arena);
  for (int i = 0; i < OUTCOMES; i++) printf("%s %u ", outcomes[i], counts[i]);
  printf("accept_failures %u pauses %u (seed %lu)\n", accept_failures, pauses, seed);
  return 0;
}
