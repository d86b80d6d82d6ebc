/*
 * Moves the bytes of one way of a tunnel: splice(2) from a socket into a pipe and on to the other socket. Ends no tunnel: it notes
 * what it meets. A pipe is held only while bytes are in it; when there is none to be had, bytes are copied.
 */
#define _GNU_SOURCE
#include "tunnel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Asked of the kernel for each pipe; what it grants an ordinary user is often less, and then the default serves. */
#define PIPE_BYTES (1 << 20)
/* Readers that are stuck keep pipes. Beyond this many, bytes are copied: slower, and nobody waits for somebody else's pipe. */
#ifndef MAX_PIPES
#define MAX_PIPES 128
#endif
/* Empty pipes kept for the next bytes. */
#define MAX_SPARE_PIPES 16

/* ---- pipes ---- */

/* NULL when the bound is met or the machine has no descriptors: then bytes are copied. */
static struct pipe *pipe_get(struct lane *lane) {
  struct pipe *pipe = lane->spare;
  if (pipe != NULL) {
    lane->spare = pipe->next;
    lane->spare_count--;
    return pipe;
  }
  int ends[2];
  if ((pipe = malloc(sizeof *pipe)) == NULL) return NULL;
  bool is_one_more = atomic_fetch_add(&lane->relay->pipe_count, 1) < MAX_PIPES;
  if (!is_one_more || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
    atomic_fetch_sub(&lane->relay->pipe_count, 1);
    free(pipe);
    return NULL;
  }
  (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
  int bytes = fcntl(ends[1], F_GETPIPE_SZ);
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  *pipe = (struct pipe){.out = ends[0], .in = ends[1], .slots = bytes > 0 ? (size_t)bytes / page : 1};
  return pipe;
}

void pipe_close(struct lane *lane, struct pipe *pipe) {
  close(pipe->out);
  close(pipe->in);
  free(pipe);
  atomic_fetch_sub(&lane->relay->pipe_count, 1);
}

void pipe_put(struct lane *lane, struct way *way) {
  struct pipe *pipe = way->pipe;
  way->pipe = NULL;
  if (pipe == NULL) return;
  /* Bytes of one tunnel must never meet another. */
  if (way->held > 0 || lane->spare_count >= MAX_SPARE_PIPES) {
    pipe_close(lane, pipe);
    return;
  }
  pipe->next = lane->spare;
  lane->spare = pipe;
  lane->spare_count++;
}

/* ---- moving bytes ---- */

void side_broke(struct tunnel *tunnel, struct side *side) {
  side->broken = true;
  if (tunnel->broken < 0) tunnel->broken = side == &tunnel->side[1];
}

static void count(struct lane *lane, struct tunnel *tunnel, struct way *way, ssize_t bytes) {
  /* Only the thread of its lane writes; whoever reads may be a little behind. */
  uint64_t given = atomic_load_explicit(&way->given, memory_order_relaxed) + (uint64_t)bytes;
  atomic_store_explicit(&way->given, given, memory_order_relaxed);
  tunnel->active_at = lane->now;
}

/* What a failed call on `side` means; `edge` is what EAGAIN ends. */
static enum progress failed(struct tunnel *tunnel, struct side *side, bool *edge) {
  switch (errno) {
    case EAGAIN:
      *edge = false;
      return WAITS;
    case EINTR:
      return HAS_MORE;
    case ENOMEM:
    case ENOBUFS:
      return STARVES;
    default:
      side_broke(tunnel, side);
      return WAITS;
  }
}

/* From the pipe to the other side. */
static enum progress give(struct lane *lane, struct tunnel *tunnel, struct way *way, struct side *to) {
  if (!to->writable) return WAITS;
  ssize_t n = splice(way->pipe->out, NULL, to->fd, NULL, (size_t)way->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (n < 0) return failed(tunnel, to, &to->writable);
  way->held -= (uint64_t)n;
  count(lane, tunnel, way, n);
  return HAS_MORE;
}

/* Without a pipe. What the other side has no room for stays in the kernel, so that nothing is held here. */
static enum progress copy(struct lane *lane, struct tunnel *tunnel, struct way *way, size_t most) {
  struct side *from = &tunnel->side[way - tunnel->way], *to = &tunnel->side[!(way - tunnel->way)];
  ssize_t seen = recv(from->fd, lane->scratch, most < SCRATCH_BYTES ? most : SCRATCH_BYTES, MSG_PEEK | MSG_DONTWAIT);
  if (seen < 0) return failed(tunnel, from, &from->readable);
  way->ended = seen == 0;
  if (seen == 0) return WAITS;
  ssize_t n = send(to->fd, lane->scratch, (size_t)seen, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0) return failed(tunnel, to, &to->writable);
  /* MSG_TRUNC: take them off the queue without another copy, tcp(7). */
  if (recv(from->fd, lane->scratch, (size_t)n, MSG_TRUNC | MSG_DONTWAIT) != n) side_broke(tunnel, from);
  way->taken += (uint64_t)n;
  count(lane, tunnel, way, n);
  return HAS_MORE;
}

/* The budget is spent: the end may come, one byte more may not. */
static enum progress look(struct tunnel *tunnel, struct way *way, struct side *from) {
  char byte;
  ssize_t n = recv(from->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n < 0) return failed(tunnel, from, &from->readable);
  if (n > 0) tunnel->is_over_budget = true;
  else way->ended = true;
  return WAITS;
}

/* From one side into an empty pipe. */
static enum progress take(struct lane *lane, struct tunnel *tunnel, struct way *way) {
  struct side *from = &tunnel->side[way - tunnel->way], *to = &tunnel->side[!(way - tunnel->way)];
  /* What cannot go on now stays in the kernel, where it slows its sender. */
  if (!from->readable || !to->writable) return WAITS;
  uint64_t room = way->taken < way->budget ? way->budget - way->taken : 0;
  if (room == 0) return look(tunnel, way, from);
  size_t most = room < lane->kind->turn_bytes ? (size_t)room : lane->kind->turn_bytes;
  if (way->pipe == NULL && (way->pipe = pipe_get(lane)) == NULL) return copy(lane, tunnel, way, most);
  ssize_t n = splice(from->fd, NULL, way->pipe->in, NULL, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  /* A kernel, or a filter before it, that does not splice this. */
  if (n < 0 && (errno == EINVAL || errno == ENOSYS)) return copy(lane, tunnel, way, most);
  if (n < 0) return failed(tunnel, from, &from->readable);
  way->ended = n == 0;
  way->held = (uint64_t)n;
  way->taken += (uint64_t)n;
  /* Fewer bytes than asked for and than the pipe has slots: the socket ended it, so EAGAIN need not be asked for. */
  if (!from->hung && (size_t)n < most && (size_t)n < way->pipe->slots) from->readable = false;
  return n == 0 ? WAITS : HAS_MORE;
}

enum progress pump(struct lane *lane, struct tunnel *tunnel, int w) {
  struct way *way = &tunnel->way[w];
  struct side *to = &tunnel->side[!w];
  uint64_t until = atomic_load_explicit(&way->given, memory_order_relaxed) + lane->kind->turn_bytes;
  enum progress progress = HAS_MORE;
  while (progress == HAS_MORE) {
    if (to->broken || tunnel->is_over_budget) progress = WAITS;
    else if (way->held > 0) progress = give(lane, tunnel, way, to);
    else if (way->ended) progress = WAITS;
    else if (atomic_load_explicit(&way->given, memory_order_relaxed) >= until) break;
    else progress = take(lane, tunnel, way);
  }
  if (way->held == 0) pipe_put(lane, way);
  if (way->ended && way->held == 0 && !way->closed && !to->broken) {
    /* Only the writing half: the other side may have much to say yet. */
    if (shutdown(to->fd, SHUT_WR) < 0) side_broke(tunnel, to);
    way->closed = true;
  }
  return progress;
}
