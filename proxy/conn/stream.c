/* One connection: what is read, written and told of it. Accepts nothing and knows no list but the ready one. */
#define _GNU_SOURCE
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define STREAM_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
/* A wish is not answered with less room than this, unless it asks for less: a new batch has more. */
#define LEAST_ROOM 4096

/* What broke the connection, or 0. The kernel tells one caller only, so it is kept. */
int error_of(struct conn *conn) {
  int error = 0;
  socklen_t length = sizeof error;
  if (conn->error == 0 && getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0) conn->error = error;
  return conn->error;
}

static int32_t unread_bytes(const struct conn *conn) {
  int unread = 0;
  return ioctl(conn->fd, FIONREAD, &unread) < 0 ? 0 : unread;
}

/* ---- reading ---- */

static int32_t told_failure(struct conn *conn, int error) {
  conn->error = error;
  conn->fin_told = conn->gone_told = true;
  return -error;
}

static int32_t told_fin(struct conn *conn, int32_t bytes) {
  conn->fin_told = true;
  return bytes;
}

/* A look that found no more than it knew: only the end answers it. */
static int32_t seen_before(struct conn *conn, int32_t bytes) {
  if (conn->broken && error_of(conn) != 0) return told_failure(conn, conn->error);
  /* Still readable, but not more so: the next event decides. */
  return conn->hung ? told_fin(conn, bytes) : -EAGAIN;
}

/* Bytes, 0 for FIN, -errno; -EAGAIN when the wish has to wait. */
int32_t receive(struct conn *conn, uint8_t *to, uint32_t most, const struct engine_wish *wish) {
  ssize_t n = recv(conn->fd, to, most, MSG_DONTWAIT | (wish->is_peek ? MSG_PEEK : 0));
  if (n < 0 && errno != EAGAIN) return told_failure(conn, errno);
  if (n <= 0 && conn->error != 0) return told_failure(conn, conn->error);
  if (n < 0) {
    conn->readable = false;
    return -EAGAIN;
  }
  if (n == 0) return told_fin(conn, 0);
  if (wish->is_peek) return (size_t)n <= wish->beyond ? seen_before(conn, (int32_t)n) : (int32_t)n;
  /* A short read has emptied the socket, epoll(7); but a FIN that was seen makes no second edge. */
  if ((size_t)n < most && !conn->hung) conn->readable = false;
  return (int32_t)n;
}

int32_t engine_read(struct engine *engine, int32_t id, const struct engine_wish *wish) {
  struct conn *conn = conn_find(engine, id);
  if (conn == NULL || conn->kind == IS_LISTENER) return -EBADF;
  struct engine_wish bounded = *wish;
  if (bounded.max_bytes > engine->direct) bounded.max_bytes = engine->direct;
  if (bounded.max_bytes == 0 || (wish->is_peek && wish->beyond >= bounded.max_bytes)) return -EINVAL;
  int32_t n = conn->readable && conn->kind == IS_OPEN ? receive(conn, engine->buffers.arena, bounded.max_bytes, &bounded) : -EAGAIN;
  conn->wants_read = n == -EAGAIN;
  conn->wish = bounded;
  return n;
}

int32_t engine_unread(struct engine *engine, int32_t id) {
  struct conn *conn = conn_find(engine, id);
  if (conn == NULL) return -EBADF;
  bool was_wanted = conn->wants_read;
  conn->wants_read = false;
  return was_wanted;
}

/* ---- what is told; each is false when there is no room for it ---- */

static bool tell_connected(struct engine *engine, struct conn *conn) {
  if (!conn->writable) return true;
  if (!has_room(engine, 1, 0)) return false;
  int error = error_of(conn);
  conn->kind = IS_OPEN;
  if (error != 0) {
    (void)told_failure(conn, error);
    conn->wants_read = conn->wants_write = false;
  }
  tell(engine, ENGINE_CONNECTED, conn->id, error, 0);
  return true;
}

static bool tell_bytes(struct engine *engine, struct conn *conn) {
  if (!conn->wants_read || !conn->readable) return true;
  uint32_t least = conn->wish.is_peek || conn->wish.max_bytes < LEAST_ROOM ? conn->wish.max_bytes : LEAST_ROOM;
  if (!has_room(engine, 1, least)) return false;
  uint32_t left = engine->buffers.size - engine->used;
  int32_t n = receive(conn, engine->buffers.arena + engine->used, conn->wish.max_bytes < left ? conn->wish.max_bytes : left, &conn->wish);
  if (n == -EAGAIN) return true;
  conn->wants_read = false;
  if (n < 0) {
    tell(engine, ENGINE_FAILED, conn->id, -n, 0);
    return true;
  }
  tell(engine, ENGINE_DATA, conn->id, (int32_t)engine->used, n);
  engine->used += (uint32_t)n;
  return true;
}

static bool tell_writable(struct engine *engine, struct conn *conn) {
  if (!conn->wants_write || !conn->writable) return true;
  if (!has_room(engine, 1, 0)) return false;
  conn->wants_write = false;
  tell(engine, ENGINE_WRITABLE, conn->id, 0, 0);
  return true;
}

static bool tell_hup(struct engine *engine, struct conn *conn) {
  /* Cut short is not ended: that is told as what it is. */
  if (!conn->hung || conn->fin_told || (conn->broken && error_of(conn) != 0)) return true;
  if (!has_room(engine, 1, 0)) return false;
  conn->fin_told = true;
  tell(engine, ENGINE_HUP, conn->id, unread_bytes(conn), 0);
  return true;
}

static bool tell_gone(struct engine *engine, struct conn *conn) {
  if (!conn->broken || conn->gone_told) return true;
  if (!has_room(engine, 1, 0)) return false;
  conn->gone_told = conn->fin_told = true;
  tell(engine, ENGINE_GONE, conn->id, error_of(conn), unread_bytes(conn));
  return true;
}

bool serve_stream(struct engine *engine, struct conn *conn) {
  if (conn->kind == IS_CONNECTING && !tell_connected(engine, conn)) return false;
  if (conn->kind == IS_CONNECTING) return true;
  if (!tell_bytes(engine, conn) || !tell_writable(engine, conn)) return false;
  /* A wish that waits yet hears of the end itself. */
  return conn->wants_read || (tell_hup(engine, conn) && tell_gone(engine, conn));
}

/* ---- beginning, writing, ending ---- */

int32_t engine_adopt(struct engine *engine, int fd) {
  if (engine->is_stopped) return -EBADF;
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
  struct conn *conn = conn_add(engine, fd, IS_OPEN, STREAM_EVENTS);
  return conn == NULL ? -errno : conn->id;
}

int32_t engine_connect(struct engine *engine, const char *address, uint16_t port) {
  struct sockaddr_storage to;
  socklen_t length;
  if (engine->is_stopped) return -EBADF;
  if (!parse_address(address, port, &to, &length)) return -EINVAL;
  int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  send_at_once(fd);
  bool is_begun = connect(fd, (struct sockaddr *)&to, length) == 0 || errno == EINPROGRESS;
  /* Watched from here on: before, the kernel would call it hung up. */
  struct conn *conn = is_begun ? conn_add(engine, fd, IS_CONNECTING, STREAM_EVENTS) : NULL;
  if (conn != NULL) return conn->id;
  int error = errno;
  close(fd);
  return -error;
}

int32_t engine_write(struct engine *engine, int32_t id, const uint8_t *bytes, size_t count) {
  struct conn *conn = conn_find(engine, id);
  if (conn == NULL || conn->kind == IS_LISTENER) return -EBADF;
  /* What a number can say; the rest is for another call. */
  if (count > 1 << 30) count = 1 << 30;
  ssize_t n = send(conn->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n >= 0) {
    if ((size_t)n < count) conn->writable = false;
    return (int32_t)n;
  }
  if (errno == EAGAIN) {
    conn->writable = false;
    return 0;
  }
  /* A later read must not take the reset for a FIN. */
  if (errno != ENOMEM && errno != ENOBUFS && !conn->has_finished) conn->error = errno;
  return -errno;
}

int32_t engine_want_write(struct engine *engine, int32_t id) {
  struct conn *conn = conn_find(engine, id);
  if (conn == NULL || conn->kind == IS_LISTENER) return -EBADF;
  conn->wants_write = true;
  if (conn->writable) make_ready(engine, conn);
  return 0;
}

int32_t engine_finish(struct engine *engine, int32_t id) {
  struct conn *conn = conn_find(engine, id);
  if (conn == NULL || conn->kind == IS_LISTENER) return -EBADF;
  conn->has_finished = true;
  return shutdown(conn->fd, SHUT_WR) < 0 ? -errno : 0;
}

int32_t engine_release(struct engine *engine, int32_t id) {
  struct conn *conn = conn_find(engine, id);
  return conn == NULL || conn->kind == IS_LISTENER ? -EBADF : conn_remove(engine, conn);
}

int32_t engine_close(struct engine *engine, int32_t id, bool is_reset) {
  int32_t fd = engine_release(engine, id);
  if (fd < 0) return fd;
  if (is_reset) reset_and_close(fd);
  else close(fd);
  return 0;
}
