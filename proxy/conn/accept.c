/* Listeners: each takes its share of clients per wake-up, and turns clients away rather than spin when the machine has nothing to give. */
#define _GNU_SOURCE
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#define SHARE 64

/* Once per wake-up: a thousand clients turned away are one event. */
static void tell_failed(struct engine *engine, struct conn *listener, int error) {
  if (listener->has_failed) return;
  listener->has_failed = true;
  tell(engine, ENGINE_ACCEPT_FAILED, listener->id, error, 0);
}

static void watch(struct engine *engine, struct conn *listener, bool is_paused) {
  struct epoll_event event = {.events = is_paused ? 0 : EPOLLIN, .data.u32 = (uint32_t)listener->id};
  if (epoll_ctl(engine->epoll, EPOLL_CTL_MOD, listener->fd, &event) < 0) return;
  listener->is_paused = is_paused;
  engine->paused = is_paused ? engine->paused + 1 : engine->paused - 1;
}

/* The listener stays readable while clients wait, so it is not watched until there may be something to give again. */
static bool pause_listener(struct engine *engine, struct conn *listener) {
  if (!listener->is_paused) watch(engine, listener, true);
  return false;
}

static int take(struct conn *listener, struct sockaddr_storage *peer) {
  socklen_t length = sizeof *peer;
  return accept4(listener->fd, (struct sockaddr *)peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* No descriptor is left: the spare one lets the client hear so instead of waiting. True when there may be another client. */
static bool turn_away(struct engine *engine, struct conn *listener) {
  struct sockaddr_storage peer;
  if (engine->spare >= 0) close(engine->spare);
  int fd = engine->spare >= 0 ? take(listener, &peer) : -1, error = engine->spare >= 0 ? errno : EMFILE;
  if (fd >= 0) reset_and_close(fd);
  engine->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) return true;
  /* Another thread took the descriptor meanwhile. */
  if (error == EMFILE || error == ENFILE) return pause_listener(engine, listener);
  return error != EAGAIN;
}

/* True when there may be another client. accept(2): what the network did to one client is no reason to stop. */
static bool after_failure(struct engine *engine, struct conn *listener, int error) {
  switch (error) {
    case EAGAIN:
      return false;
    case ECONNABORTED:
    case EPROTO:
    case EINTR:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
      return true;
    case EMFILE:
    case ENFILE:
      tell_failed(engine, listener, error);
      return turn_away(engine, listener);
    default:
      tell_failed(engine, listener, error);
      return pause_listener(engine, listener);
  }
}

/* Most clients have said something by now, which saves them a round through the loop. */
static void tell_head(struct engine *engine, struct conn *conn, uint32_t head_bytes) {
  uint32_t left = engine->buffers.size - engine->used;
  struct engine_wish wish = {.max_bytes = head_bytes < left ? head_bytes : left};
  if (wish.max_bytes == 0) return;
  conn->readable = true;
  int32_t n = receive(conn, engine->buffers.arena + engine->used, wish.max_bytes, &wish);
  if (n == -EAGAIN) return;
  /* What a client said before it reset is nobody's any more. */
  if (n > 0 && error_of(conn) != 0) n = -conn->error;
  if (n < 0) {
    tell(engine, ENGINE_FAILED, conn->id, -n, 0);
    return;
  }
  tell(engine, ENGINE_DATA, conn->id, (int32_t)engine->used, n);
  engine->used += (uint32_t)n;
}

static void tell_accepted(struct engine *engine, struct conn *listener, struct conn *conn, const struct sockaddr_storage *peer) {
  struct sockaddr_storage local = {0};
  socklen_t length = sizeof local;
  char *text = (char *)engine->buffers.arena + engine->used;
  uint32_t bytes = getsockname(conn->fd, (struct sockaddr *)&local, &length) < 0 ? 0 : address_text(text, peer, &local);
  tell(engine, ENGINE_ACCEPT, conn->id, (int32_t)engine->used, (int32_t)bytes);
  engine->buffers.events[engine->count * ENGINE_EVENT_FIELDS - 1] = listener->id;
  engine->used += bytes;
}

/* True when there may be another client. */
static bool accept_one(struct engine *engine, struct conn *listener) {
  struct sockaddr_storage peer = {0};
  int fd = take(listener, &peer);
  if (fd < 0) return after_failure(engine, listener, errno);
  struct conn *conn = conn_add(engine, fd, IS_OPEN, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  if (conn == NULL) {
    tell_failed(engine, listener, errno);
    reset_and_close(fd);
    return true;
  }
  conn->writable = true;
  tell_accepted(engine, listener, conn, &peer);
  tell_head(engine, conn, listener->head_bytes);
  return true;
}

bool accept_share(struct engine *engine, struct conn *listener) {
  if (listener->wake != engine->wake) {
    listener->wake = engine->wake;
    listener->share = SHARE;
    listener->has_failed = false;
  }
  for (bool is_more = !listener->is_paused; is_more && listener->share > 0; listener->share--) {
    if (!has_room(engine, 2, ADDRESS_BYTES + listener->head_bytes)) return false;
    is_more = accept_one(engine, listener);
  }
  return true;
}

int32_t engine_listen(struct engine *engine, int fd, uint32_t head_bytes) {
  if (engine->is_stopped) return -EBADF;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
  /* Level-triggered: what one wake-up leaves, the next one finds. */
  struct conn *listener = conn_add(engine, fd, IS_LISTENER, EPOLLIN);
  if (listener == NULL) return -errno;
  /* Inherited by every client, tcp(7). */
  send_at_once(fd);
  listener->head_bytes = head_bytes < engine->direct ? head_bytes : engine->direct;
  return listener->id;
}

int32_t engine_unlisten(struct engine *engine, int32_t id) {
  struct conn *listener = conn_find(engine, id);
  if (listener == NULL || listener->kind != IS_LISTENER) return -EBADF;
  close(conn_remove(engine, listener));
  return 0;
}

bool engine_is_paused(const struct engine *engine) { return engine->paused > 0; }

void engine_revive(struct engine *engine) {
  if (engine->is_stopped) return;
  if (engine->spare < 0) engine->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
  for (uint32_t i = 0; i < engine->conn_count; i++)
    if (engine->conns[i]->is_paused) watch(engine, engine->conns[i], false);
}
