/*
 * The table of ids. An id is a place in it, used again once it is free: at once, or after the batch that may name it still. The memory of
 * a place is kept, so the table is as large as the most connections there ever were at once.
 */
#define _GNU_SOURCE
#include "inside.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

static bool grow(void *stack, uint32_t room) {
  struct conn ***place = stack;
  struct conn **larger = realloc(*place, room * sizeof *larger);
  if (larger == NULL) return false;
  *place = larger;
  return true;
}

/* All three grow together, so that freeing a place can never want memory. */
static struct conn *new_place(struct engine *engine) {
  if (engine->conn_count == engine->conn_room) {
    uint32_t room = engine->conn_room == 0 ? 64 : 2 * engine->conn_room;
    if (!grow(&engine->conns, room) || !grow(&engine->free, room) || !grow(&engine->resting, room)) return NULL;
    engine->conn_room = room;
  }
  struct conn *conn = calloc(1, sizeof *conn);
  if (conn == NULL) return NULL;
  conn->id = (int32_t)engine->conn_count;
  engine->conns[engine->conn_count++] = conn;
  return conn;
}

struct conn *conn_add(struct engine *engine, int fd, enum kind kind, uint32_t events) {
  struct conn *conn = engine->free_count > 0 ? engine->free[--engine->free_count] : new_place(engine);
  if (conn == NULL) return NULL;
  struct epoll_event event = {.events = events, .data.u32 = (uint32_t)conn->id};
  if (epoll_ctl(engine->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
    engine->free[engine->free_count++] = conn;
    return NULL;
  }
  *conn = (struct conn){.id = conn->id, .fd = fd, .kind = kind};
  return conn;
}

struct conn *conn_find(const struct engine *engine, int32_t id) {
  if (id < 0 || (uint32_t)id >= engine->conn_count) return NULL;
  struct conn *conn = engine->conns[id];
  return conn->kind == IS_FREE ? NULL : conn;
}

int conn_remove(struct engine *engine, struct conn *conn) {
  int fd = conn->fd;
  /* Somebody may hold a copy, and closing alone would leave the socket in the set. */
  (void)epoll_ctl(engine->epoll, EPOLL_CTL_DEL, fd, NULL);
  if (conn->is_ready) {
    conn->ready.prev->next = conn->ready.next;
    conn->ready.next->prev = conn->ready.prev;
  }
  if (conn->is_paused) engine->paused--;
  *conn = (struct conn){.id = conn->id, .fd = -1, .kind = IS_FREE};
  if (engine->is_telling) engine->resting[engine->resting_count++] = conn;
  else engine->free[engine->free_count++] = conn;
  return fd;
}

void conns_free(struct engine *engine) {
  for (uint32_t i = 0; i < engine->conn_count; i++) free(engine->conns[i]);
  free(engine->conns);
  free(engine->free);
  free(engine->resting);
}
