/* What the files of the native relay share: a tunnel, the thread's state, and the functions across files. Not for callers: relay.h is. */
#ifndef SALLYPORT_TUNNEL_H
#define SALLYPORT_TUNNEL_H

#include "relay.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define SCRATCH_BYTES (1 << 16)

struct link {
  struct link *prev, *next;
};

struct pipe {
  int out, in;
  size_t slots; /* each holds at least one byte */
  struct pipe *next;
};

struct side {
  struct tunnel *tunnel;
  int fd;
  /* Edges: set by an event, cleared when the kernel has said EAGAIN. */
  bool readable, writable;
  bool hung;   /* its FIN is there: read on until it is met */
  bool broken; /* its connection is lost */
};

struct way {
  struct pipe *pipe;
  uint64_t held;          /* bytes in the pipe */
  uint64_t taken;         /* bytes read; never more than the budget */
  uint64_t budget;
  _Atomic uint64_t given; /* bytes handed over */
  bool ended;             /* the FIN was read */
  bool closed;            /* the FIN was passed on */
};

struct tunnel {
  struct link shared; /* in `commands` or `ended` */
  struct link ready;
  bool is_queued; /* in `commands`; under the lock, as the next two */
  bool is_severed;
  bool is_over;
  bool is_open;  /* the thread has it in its epoll set and heap */
  bool is_ready; /* in `quick` or `bulk` */
  bool is_bulk;  /* moved much in its last turn */
  struct side side[2];
  struct way way[2];
  int broken; /* the side that broke first, or -1 */
  bool is_over_budget;
  uint32_t idle_ms;
  uint64_t active_at, deadline; /* ms; the deadline may be early, never late */
  size_t heap_at;
  void *owner;
  enum relay_cause cause;
};

struct relay {
  pthread_t thread;
  pthread_mutex_t lock;
  struct link commands, ended;
  bool is_stopping;
  void (*on_ended)(void *);
  void *context;
  /* From here on the thread's own. */
  int epoll, wake;
  /* Tunnels that are to have a turn. */
  struct link quick, bulk;
  bool is_hurried; /* somebody among them waits for a turn only */
  uint64_t now; /* ms */
  struct pipe *spare;
  size_t spare_count, pipe_count;
  /* Open tunnels, the nearest deadline first. */
  struct tunnel **heap;
  size_t heap_size, heap_room;
  char scratch[SCRATCH_BYTES];
};

/* ---- pump.c ---- */

/* What a way waits for: an event, its next turn, memory. */
enum progress { WAITS, HAS_MORE, STARVES };

/* Moves bytes one way until it waits for something or its turn is over. */
enum progress pump(struct relay *relay, struct tunnel *tunnel, int w);

/* The connection of `side` is lost. */
void side_broke(struct tunnel *tunnel, struct side *side);

/* Gives back the pipe of `way`, if it holds one, with whatever is in it. */
void pipe_put(struct relay *relay, struct way *way);
void pipe_close(struct relay *relay, struct pipe *pipe);

/* ---- deadlines.c ---- */

/* False when there is no memory. */
bool heap_add(struct relay *relay, struct tunnel *tunnel);
void heap_remove(struct relay *relay, struct tunnel *tunnel);
/* After the deadline of `tunnel` was moved on. */
void heap_down(struct relay *relay, struct tunnel *tunnel);

#endif
