/*
 * The set-up engine: one epoll set, and from it batches of events. The parts of it: table.c ids, accept.c listeners, stream.c connections.
 *
 * A turn: all that the kernel says is marked first, then told as far as there is room. Who has more to tell than fits stays in `ready`.
 * INVARIANT: no call of the user comes between epoll_wait() and the marks, so an event of the kernel always names who it is for.
 */
#define _GNU_SOURCE
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_EVENTS 256

/* ---- telling ---- */

/* An empty arena has room for anything: there is no larger one to wait for. */
bool has_room(const struct engine *engine, uint32_t events, uint32_t bytes) {
  bool has_bytes = engine->used == engine->direct || engine->buffers.size - engine->used >= bytes;
  return has_bytes && engine->count + events <= engine->buffers.room;
}

void tell(struct engine *engine, enum engine_event kind, int32_t id, int32_t a, int32_t b) {
  int32_t event[ENGINE_EVENT_FIELDS] = {(int32_t)kind, id, a, b, -1};
  memcpy(engine->buffers.events + engine->count++ * ENGINE_EVENT_FIELDS, event, sizeof event);
}

void make_ready(struct engine *engine, struct conn *conn) {
  if (conn->is_ready) return;
  conn->is_ready = true;
  conn->ready = (struct link){.prev = engine->ready.prev, .next = &engine->ready};
  conn->ready.prev->next = &conn->ready;
  engine->ready.prev = &conn->ready;
}

static void unready(struct conn *conn) {
  conn->is_ready = false;
  conn->ready.prev->next = conn->ready.next;
  conn->ready.next->prev = conn->ready.prev;
}

static bool has_ready(const struct engine *engine) { return engine->ready.next != &engine->ready; }

/* ---- a turn ---- */

static void mark(struct engine *engine, struct conn *conn, uint32_t events) {
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) conn->readable = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) conn->writable = true;
  if (events & (EPOLLRDHUP | EPOLLHUP)) conn->hung = true;
  if (events & (EPOLLHUP | EPOLLERR)) conn->broken = true;
  make_ready(engine, conn);
}

static void harvest(struct engine *engine) {
  struct epoll_event events[MAX_EVENTS];
  int n = epoll_wait(engine->epoll, events, MAX_EVENTS, 0);
  for (int i = 0; i < n; i++) mark(engine, engine->conns[events[i].data.u32], events[i].events);
  engine->is_full = n == MAX_EVENTS;
}

static bool serve(struct engine *engine, struct conn *conn) {
  return conn->kind == IS_LISTENER ? accept_share(engine, conn) : serve_stream(engine, conn);
}

uint32_t engine_gather(struct engine *engine, bool is_first) {
  engine->count = 0;
  engine->used = engine->direct;
  if (engine->is_stopped) return 0;
  engine->is_telling = true;
  if (is_first) engine->wake++;
  if (is_first || !has_ready(engine)) harvest(engine);
  while (has_ready(engine)) {
    struct conn *conn = (struct conn *)(void *)((char *)engine->ready.next - offsetof(struct conn, ready));
    if (!serve(engine, conn)) break;
    unready(conn);
  }
  return engine->count;
}

void engine_settle(struct engine *engine) {
  engine->is_telling = false;
  while (engine->resting_count > 0) engine->free[engine->free_count++] = engine->resting[--engine->resting_count];
}

bool engine_has_more(const struct engine *engine) { return !engine->is_stopped && (engine->is_full || has_ready(engine)); }

/* ---- start and stop ---- */

int engine_fd(const struct engine *engine) { return engine->epoll; }

static void close_parts(struct engine *engine) {
  if (engine->epoll >= 0) close(engine->epoll);
  if (engine->spare >= 0) close(engine->spare);
  engine->epoll = engine->spare = -1;
}

struct engine *engine_create(const struct engine_buffers *buffers) {
  struct engine *engine = calloc(1, sizeof *engine);
  if (engine == NULL) return NULL;
  engine->buffers = *buffers;
  /* The rest is for batches, so that reading while one is told leaves its bytes alone. */
  engine->direct = buffers->size / 4;
  engine->ready = (struct link){&engine->ready, &engine->ready};
  engine->epoll = epoll_create1(EPOLL_CLOEXEC);
  engine->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (engine->epoll >= 0 && engine->spare >= 0) return engine;
  int error = errno;
  close_parts(engine);
  free(engine);
  errno = error;
  return NULL;
}

void engine_stop(struct engine *engine) {
  if (engine->is_stopped) return;
  engine->is_stopped = true;
  for (uint32_t i = 0; i < engine->conn_count; i++)
    if (engine->conns[i]->kind != IS_FREE) close(conn_remove(engine, engine->conns[i]));
  close_parts(engine);
}

void engine_free(struct engine *engine) {
  conns_free(engine);
  free(engine);
}
