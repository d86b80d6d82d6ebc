/* What the files of the native relay share: a tunnel, a lane, and the functions across files. Not for callers: relay.h is. */
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
  struct lane *lane; /* whose it is, or will be once that lane sees to its command; under the lock, as the next three */
  bool is_queued;    /* in the `commands` of its lane */
  bool is_severed;
  bool is_over;
  bool is_open;     /* its lane has it in its epoll set and heap */
  bool is_ready;    /* in `ready` of its lane */
  unsigned misfits; /* turns in a row that would have suited the other lane */
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

enum { QUICK, BULK, LANES };

/* What makes one lane differ from the other. */
struct lane_kind {
  const char *name;     /* of the thread, 15 bytes at most */
  bool is_for_bulk;
  size_t turn_bytes;    /* one way may move before others have their turn */
  unsigned max_misfits; /* then a tunnel goes to the other lane */
};

/* One thread, and the tunnels it carries. */
struct lane {
  struct relay *relay;
  const struct lane_kind *kind;
  struct lane *other;
  pthread_t thread;
  struct link commands; /* under the lock */
  int epoll, wake;
  /* From here on the thread's own. */
  struct link ready; /* tunnels that are to have a turn */
  bool is_hurried;   /* somebody among them waits for a turn only */
  uint64_t now;      /* ms */
  struct pipe *spare;
  size_t spare_count;
  /* Open tunnels, the nearest deadline first. */
  struct tunnel **heap;
  size_t heap_size, heap_room;
  char scratch[SCRATCH_BYTES];
};

struct relay {
  pthread_mutex_t lock;
  struct link ended;
  bool is_stopping;
  void (*on_ended)(void *);
  void *context;
  _Atomic size_t pipe_count;
  struct lane lane[LANES];
};

/* ---- links and clock ---- */

#define container(type, member, pointer) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

static inline void list_init(struct link *list) { list->prev = list->next = list; }
static inline bool list_empty(const struct link *list) { return list->next == list; }

static inline void list_append(struct link *list, struct link *link) {
  link->prev = list->prev;
  link->next = list;
  list->prev->next = link;
  list->prev = link;
}

static inline void list_remove(struct link *link) {
  link->prev->next = link->next;
  link->next->prev = link->prev;
}

/* ---- lane.c ---- */

void lane_init(struct lane *lane, struct relay *relay, int which);

/* Starts the thread; 0 or an errno, and then nothing of it is left. Both lanes are initialised before. */
int lane_start(struct lane *lane);

/* Waits for the thread to end, after `is_stopping` was set. */
void lane_join(struct lane *lane);

/* Once every thread was joined: severs what was under way to this lane and gives back what the lane holds. */
void lane_end(struct lane *lane);

/* Makes `tunnel` a command of the lane; the caller holds the lock. True when the lane has to be woken. */
bool lane_command(struct lane *lane, struct tunnel *tunnel);
void lane_wake(struct lane *lane);

/* ---- pump.c ---- */

/* What a way waits for: an event, its next turn, memory. */
enum progress { WAITS, HAS_MORE, STARVES };

/* Moves bytes one way until it waits for something or its turn is over. */
enum progress pump(struct lane *lane, struct tunnel *tunnel, int w);

/* The connection of `side` is lost. */
void side_broke(struct tunnel *tunnel, struct side *side);

/* Gives back the pipe of `way`, if it holds one, with whatever is in it. */
void pipe_put(struct lane *lane, struct way *way);
void pipe_close(struct lane *lane, struct pipe *pipe);

/* ---- deadlines.c ---- */

/* False when there is no memory. */
bool heap_add(struct lane *lane, struct tunnel *tunnel);
void heap_remove(struct lane *lane, struct tunnel *tunnel);
/* After the deadline of `tunnel` was moved on. */
void heap_down(struct lane *lane, struct tunnel *tunnel);

#endif
