/*
 * Carries the bytes of all tunnels on one thread: epoll, edge-triggered, splice(2) through pipes. Decides nothing; by now the answer was yes.
 *
 * A tunnel has two sides, client (0) and upstream (1), and two ways: way w goes from side w to side !w. A way holds a pipe
 * only while bytes are in it, so that ten thousand idle tunnels hold none. INVARIANT: a way takes bytes only into an empty pipe.
 *
 * Three lists: `commands` and `ended` are shared with the caller under the lock, `quick` and `bulk` are the thread's own. A tunnel's memory
 * belongs to the thread from relay_open() until it is in `ended`; only the byte counters are read meanwhile, as atomics.
 */
#define _GNU_SOURCE
#include "tunnel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 256
/* A tunnel that moved this much in a turn lets the others go first. */
#define BULK_BYTES (1 << 16)
/* Wait before the kernel is asked again for memory it did not have. */
#define STARVED_MS 10

#define container(type, member, pointer) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

static void list_init(struct link *list) { list->prev = list->next = list; }
static bool list_empty(const struct link *list) { return list->next == list; }

static void list_append(struct link *list, struct link *link) {
  link->prev = list->prev;
  link->next = list;
  list->prev->next = link;
  list->prev = link;
}

static void list_remove(struct link *link) {
  link->prev->next = link->next;
  link->next->prev = link->prev;
}

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the end of a tunnel ---- */

/* A FIN would tell the other end that the stream is whole: what is cut short is reset. */
static void side_close(struct relay *relay, struct side *side, bool is_clean) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  if (!is_clean) (void)setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  /* A child about to exec may hold a copy, and closing alone would leave the socket in the set. */
  (void)epoll_ctl(relay->epoll, EPOLL_CTL_DEL, side->fd, NULL);
  close(side->fd);
}

static void tunnel_end(struct relay *relay, struct tunnel *tunnel, enum relay_cause cause) {
  for (int i = 0; i < 2; i++) {
    side_close(relay, &tunnel->side[i], cause == RELAY_BOTH_ENDED);
    pipe_put(relay, &tunnel->way[i]);
  }
  if (tunnel->is_open) heap_remove(relay, tunnel);
  if (tunnel->is_ready) list_remove(&tunnel->ready);
  tunnel->cause = cause;
  pthread_mutex_lock(&relay->lock);
  if (tunnel->is_queued) list_remove(&tunnel->shared);
  tunnel->is_queued = false;
  tunnel->is_over = true;
  bool is_first = list_empty(&relay->ended);
  list_append(&relay->ended, &tunnel->shared);
  pthread_mutex_unlock(&relay->lock);
  /* The tunnel may be gone from here on. */
  if (is_first) relay->on_ended(relay->context);
}

/* ---- turns ---- */

static void make_ready(struct relay *relay, struct tunnel *tunnel) {
  if (tunnel->is_ready) return;
  tunnel->is_ready = true;
  list_append(tunnel->is_bulk ? &relay->bulk : &relay->quick, &tunnel->ready);
}

/* One turn of a tunnel: both ways, then what follows from it. */
static void serve(struct relay *relay, struct tunnel *tunnel) {
  enum progress progress[2];
  uint64_t before[2], after[2];
  relay_bytes(tunnel, before);
  for (int w = 0; w < 2; w++) progress[w] = pump(relay, tunnel, w);
  relay_bytes(tunnel, after);
  tunnel->is_bulk = after[0] - before[0] + after[1] - before[1] >= BULK_BYTES;
  int broken = tunnel->broken;
  if (tunnel->is_over_budget) {
    tunnel_end(relay, tunnel, RELAY_LIMIT_BYTES);
  } else if (broken >= 0 && progress[broken] != HAS_MORE) {
    /* What a lost side had said before has been passed on as far as it could be. */
    tunnel_end(relay, tunnel, broken == 0 ? RELAY_CLIENT_ERROR : RELAY_UPSTREAM_ERROR);
  } else if (tunnel->way[0].closed && tunnel->way[1].closed) {
    tunnel_end(relay, tunnel, RELAY_BOTH_ENDED);
  } else if (progress[0] != WAITS || progress[1] != WAITS) {
    tunnel->is_bulk &= progress[0] != STARVES && progress[1] != STARVES;
    relay->is_hurried |= progress[0] == HAS_MORE || progress[1] == HAS_MORE;
    make_ready(relay, tunnel);
  }
}

/* ---- the thread ---- */

static bool side_watch(struct relay *relay, struct side *side) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = side};
  return epoll_ctl(relay->epoll, EPOLL_CTL_ADD, side->fd, &event) == 0;
}

/* A new tunnel. Its first events come at once, for what its sockets already are. */
static void admit(struct relay *relay, struct tunnel *tunnel) {
  tunnel->active_at = relay->now;
  tunnel->deadline = relay->now + tunnel->idle_ms;
  tunnel->is_open = heap_add(relay, tunnel);
  if (!tunnel->is_open || !side_watch(relay, &tunnel->side[0])) tunnel_end(relay, tunnel, RELAY_CLIENT_ERROR);
  else if (!side_watch(relay, &tunnel->side[1])) tunnel_end(relay, tunnel, RELAY_UPSTREAM_ERROR);
}

/* Next command, or NULL. */
static struct tunnel *next_command(struct relay *relay, bool *is_severed, bool *is_stopping) {
  struct tunnel *tunnel = NULL;
  pthread_mutex_lock(&relay->lock);
  *is_stopping = relay->is_stopping;
  if (!list_empty(&relay->commands)) {
    tunnel = container(struct tunnel, shared, relay->commands.next);
    list_remove(&tunnel->shared);
    tunnel->is_queued = false;
    *is_severed = tunnel->is_severed;
  }
  pthread_mutex_unlock(&relay->lock);
  return tunnel;
}

/* False when the thread is to end. */
static bool obey(struct relay *relay) {
  uint64_t times;
  bool is_severed = false, is_stopping = false;
  /* Empty already is as good. */
  if (read(relay->wake, &times, sizeof times) < 0) times = 0;
  for (struct tunnel *tunnel; (tunnel = next_command(relay, &is_severed, &is_stopping)) != NULL;) {
    if (is_severed) tunnel_end(relay, tunnel, RELAY_SEVERED);
    else admit(relay, tunnel);
  }
  return !is_stopping;
}

static void mark(struct relay *relay, struct side *side, uint32_t events) {
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) side->readable = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) side->writable = true;
  if (events & (EPOLLRDHUP | EPOLLHUP)) side->hung = true;
  if (events & EPOLLERR) side_broke(side->tunnel, side);
  make_ready(relay, side->tunnel);
}

/* A deadline is only moved when it is met: activity costs no more than a time stamp. */
static void end_idle(struct relay *relay) {
  while (relay->heap_size > 0 && relay->heap[0]->deadline <= relay->now) {
    struct tunnel *tunnel = relay->heap[0];
    tunnel->deadline = tunnel->active_at + tunnel->idle_ms;
    if (tunnel->deadline <= relay->now) tunnel_end(relay, tunnel, RELAY_IDLE);
    else heap_down(relay, tunnel);
  }
}

static int timeout(const struct relay *relay) {
  if (!list_empty(&relay->bulk) || relay->is_hurried) return 0;
  if (!list_empty(&relay->quick)) return STARVED_MS;
  if (relay->heap_size == 0) return -1;
  uint64_t deadline = relay->heap[0]->deadline, left = deadline > relay->now ? deadline - relay->now : 0;
  return left < 60000 ? (int)left : 60000;
}

static void serve_first(struct relay *relay, struct link *list) {
  struct tunnel *tunnel = container(struct tunnel, ready, list->next);
  list_remove(&tunnel->ready);
  tunnel->is_ready = false;
  serve(relay, tunnel);
}

/* Everybody with little to say, then one with much: a question never waits for more than one turn of a download. */
static void take_turns(struct relay *relay) {
  struct link *last = relay->quick.prev;
  for (bool is_last = list_empty(&relay->quick); !is_last;) {
    is_last = relay->quick.next == last;
    serve_first(relay, &relay->quick);
  }
  if (!list_empty(&relay->bulk)) serve_first(relay, &relay->bulk);
}

static void *run(void *argument) {
  struct relay *relay = argument;
  struct epoll_event events[MAX_EVENTS];
  for (bool is_running = true; is_running;) {
    int n = epoll_wait(relay->epoll, events, MAX_EVENTS, timeout(relay));
    bool has_commands = false;
    relay->now = now_ms();
    relay->is_hurried = false;
    /* All events before any turn: no tunnel ends while an event of this batch may still name it. */
    for (int i = 0; i < n; i++) {
      if (events[i].data.ptr == NULL) has_commands = true;
      else mark(relay, events[i].data.ptr, events[i].events);
    }
    take_turns(relay);
    end_idle(relay);
    if (has_commands) is_running = obey(relay);
  }
  while (relay->heap_size > 0) tunnel_end(relay, relay->heap[0], RELAY_SEVERED);
  return NULL;
}

/* ---- what the caller's thread calls ---- */

/* Signals are the main thread's. A write to a lost connection raises SIGPIPE, which stays blocked here. */
static int start_thread(struct relay *relay) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&relay->thread, NULL, run, relay);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error == 0) (void)pthread_setname_np(relay->thread, "sallyport-relay");
  return error;
}

static void close_parts(struct relay *relay) {
  if (relay->epoll >= 0) close(relay->epoll);
  if (relay->wake >= 0) close(relay->wake);
  relay->epoll = relay->wake = -1;
}

struct relay *relay_start(void (*on_ended)(void *), void *context) {
  struct relay *relay = calloc(1, sizeof *relay);
  if (relay == NULL) return NULL;
  relay->on_ended = on_ended;
  relay->context = context;
  list_init(&relay->commands);
  list_init(&relay->ended);
  list_init(&relay->quick);
  list_init(&relay->bulk);
  pthread_mutex_init(&relay->lock, NULL);
  relay->epoll = epoll_create1(EPOLL_CLOEXEC);
  relay->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  int error = 0;
  if (relay->epoll < 0 || relay->wake < 0 || epoll_ctl(relay->epoll, EPOLL_CTL_ADD, relay->wake, &event) < 0) error = errno;
  if (error == 0) error = start_thread(relay);
  if (error == 0) return relay;
  close_parts(relay);
  relay_free(relay);
  errno = error;
  return NULL;
}

static void wake(struct relay *relay) {
  uint64_t one = 1;
  /* It fails only when the counter is full, and then the thread is awake. */
  if (write(relay->wake, &one, sizeof one) < 0) return;
}

void relay_stop(struct relay *relay) {
  pthread_mutex_lock(&relay->lock);
  relay->is_stopping = true;
  pthread_mutex_unlock(&relay->lock);
  wake(relay);
  pthread_join(relay->thread, NULL);
  while (relay->spare != NULL) {
    struct pipe *pipe = relay->spare;
    relay->spare = pipe->next;
    pipe_close(relay, pipe);
  }
  close_parts(relay);
}

void relay_free(struct relay *relay) {
  pthread_mutex_destroy(&relay->lock);
  free(relay->heap);
  free(relay);
}

/* The caller holds the lock. True when the thread has to be woken. */
static bool command(struct relay *relay, struct tunnel *tunnel) {
  bool is_first = list_empty(&relay->commands);
  list_append(&relay->commands, &tunnel->shared);
  tunnel->is_queued = true;
  return is_first;
}

struct tunnel *relay_open(struct relay *relay, const int fds[2], void *owner, const struct relay_limits *limits) {
  struct tunnel *tunnel = calloc(1, sizeof *tunnel);
  if (tunnel == NULL) return NULL;
  for (int i = 0; i < 2; i++) {
    tunnel->side[i].tunnel = tunnel;
    tunnel->side[i].fd = fds[i];
    tunnel->way[i].taken = limits->sent[i];
    tunnel->way[i].budget = limits->budget[i];
    atomic_store_explicit(&tunnel->way[i].given, limits->sent[i], memory_order_relaxed);
  }
  tunnel->owner = owner;
  tunnel->broken = -1;
  tunnel->idle_ms = limits->idle_ms;
  pthread_mutex_lock(&relay->lock);
  bool is_first = command(relay, tunnel);
  pthread_mutex_unlock(&relay->lock);
  if (is_first) wake(relay);
  return tunnel;
}

void relay_sever(struct relay *relay, struct tunnel *tunnel) {
  bool is_first = false;
  pthread_mutex_lock(&relay->lock);
  tunnel->is_severed = true;
  if (!tunnel->is_over && !tunnel->is_queued) is_first = command(relay, tunnel);
  pthread_mutex_unlock(&relay->lock);
  if (is_first) wake(relay);
}

void relay_bytes(struct tunnel *tunnel, uint64_t bytes[2]) {
  for (int w = 0; w < 2; w++) bytes[w] = atomic_load_explicit(&tunnel->way[w].given, memory_order_relaxed);
}

void *relay_collect(struct relay *relay, struct relay_end *end) {
  struct tunnel *tunnel = NULL;
  pthread_mutex_lock(&relay->lock);
  if (!list_empty(&relay->ended)) {
    tunnel = container(struct tunnel, shared, relay->ended.next);
    list_remove(&tunnel->shared);
  }
  pthread_mutex_unlock(&relay->lock);
  if (tunnel == NULL) return NULL;
  void *owner = tunnel->owner;
  end->cause = tunnel->cause;
  relay_bytes(tunnel, end->bytes);
  free(tunnel);
  return owner;
}
