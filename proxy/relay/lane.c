/*
 * A lane: a thread that carries the bytes of its tunnels, with epoll, edge-triggered, and pump.c. Decides nothing; by now the answer was yes.
 *
 * Every tunnel begins in the quick lane. One that moves much goes to the bulk lane and comes back once it moves little, so that a question
 * never waits for a download: it goes over as a command of the other lane, as a new tunnel does, and only while no byte of it is in a pipe.
 *
 * A tunnel's memory belongs to the thread of its lane until it is in `ended` or in the other lane's `commands`; meanwhile only the byte counters
 * are read, as atomics, and what is said to be under the lock.
 */
#define _GNU_SOURCE
#include "tunnel.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 256
/* A turn that moved this much, both ways together, is one of bulk data. */
#ifndef BULK_BYTES
#define BULK_BYTES (1 << 16)
#endif
/* So many such turns in a row take a tunnel to the bulk lane, so many others back: a web page passes in a turn or two, and a download pauses. */
#ifndef BULK_TURNS
#define BULK_TURNS 2
#define QUICK_TURNS 16
#endif
/* Wait before the kernel is asked again for memory it did not have. */
#define STARVED_MS 10

static const struct lane_kind kinds[LANES] = {
  [QUICK] = {.name = "sallyport-quick", .is_for_bulk = false, .turn_bytes = 1 << 18, .max_misfits = BULK_TURNS},
  [BULK] = {.name = "sallyport-bulk", .is_for_bulk = true, .turn_bytes = 1 << 23, .max_misfits = QUICK_TURNS},
};

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- the end of a tunnel ---- */

/* A FIN would tell the other end that the stream is whole: what is cut short is reset. */
static void side_close(struct lane *lane, struct side *side, bool is_clean) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  if (!is_clean) (void)setsockopt(side->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  /* A child about to exec may hold a copy, and closing alone would leave the socket in the set. */
  (void)epoll_ctl(lane->epoll, EPOLL_CTL_DEL, side->fd, NULL);
  close(side->fd);
}

static void tunnel_end(struct lane *lane, struct tunnel *tunnel, enum relay_cause cause) {
  struct relay *relay = lane->relay;
  for (int i = 0; i < 2; i++) {
    side_close(lane, &tunnel->side[i], cause == RELAY_BOTH_ENDED);
    pipe_put(lane, &tunnel->way[i]);
  }
  if (tunnel->is_open) heap_remove(lane, tunnel);
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

/* ---- commands ---- */

bool lane_command(struct lane *lane, struct tunnel *tunnel) {
  bool is_first = list_empty(&lane->commands);
  list_append(&lane->commands, &tunnel->shared);
  tunnel->lane = lane;
  tunnel->is_queued = true;
  return is_first;
}

void lane_wake(struct lane *lane) {
  uint64_t one = 1;
  /* It fails only when the counter is full, and then the thread is awake. */
  if (write(lane->wake, &one, sizeof one) < 0) return;
}

static bool side_watch(struct lane *lane, struct side *side) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = side};
  return epoll_ctl(lane->epoll, EPOLL_CTL_ADD, side->fd, &event) == 0;
}

static void make_ready(struct lane *lane, struct tunnel *tunnel) {
  if (tunnel->is_ready) return;
  tunnel->is_ready = true;
  list_append(&lane->ready, &tunnel->ready);
}

/* A new tunnel, or one of the other lane. Its first events come at once, for what its sockets already are. */
static void admit(struct lane *lane, struct tunnel *tunnel) {
  if (tunnel->active_at == 0) tunnel->active_at = lane->now;
  tunnel->deadline = tunnel->active_at + tunnel->idle_ms;
  tunnel->is_open = heap_add(lane, tunnel);
  if (!tunnel->is_open || !side_watch(lane, &tunnel->side[0])) tunnel_end(lane, tunnel, RELAY_CLIENT_ERROR);
  else if (!side_watch(lane, &tunnel->side[1])) tunnel_end(lane, tunnel, RELAY_UPSTREAM_ERROR);
  /* What one from the other lane knows of its sides needs no event. */
  else make_ready(lane, tunnel);
  lane->is_hurried = true;
}

/* From this lane to the other one. A sever that came before stays a command of this lane, one that comes later goes to the other. */
static void move(struct lane *lane, struct tunnel *tunnel) {
  struct relay *relay = lane->relay;
  bool is_first = false;
  for (int i = 0; i < 2; i++) (void)epoll_ctl(lane->epoll, EPOLL_CTL_DEL, tunnel->side[i].fd, NULL);
  heap_remove(lane, tunnel);
  tunnel->is_open = false;
  tunnel->misfits = 0;
  pthread_mutex_lock(&relay->lock);
  if (!tunnel->is_queued) is_first = lane_command(lane->other, tunnel);
  pthread_mutex_unlock(&relay->lock);
  /* The tunnel is the other thread's from here on. */
  if (is_first) lane_wake(lane->other);
}

/* Next command, or NULL. */
static struct tunnel *next_command(struct lane *lane, bool *is_severed, bool *is_stopping) {
  struct tunnel *tunnel = NULL;
  pthread_mutex_lock(&lane->relay->lock);
  *is_stopping = lane->relay->is_stopping;
  if (!list_empty(&lane->commands)) {
    tunnel = container(struct tunnel, shared, lane->commands.next);
    list_remove(&tunnel->shared);
    tunnel->is_queued = false;
    *is_severed = tunnel->is_severed;
  }
  pthread_mutex_unlock(&lane->relay->lock);
  return tunnel;
}

/* False when the thread is to end. */
static bool obey(struct lane *lane) {
  uint64_t times;
  bool is_severed = false, is_stopping = false;
  /* Empty already is as good. */
  if (read(lane->wake, &times, sizeof times) < 0) times = 0;
  for (struct tunnel *tunnel; (tunnel = next_command(lane, &is_severed, &is_stopping)) != NULL;) {
    if (is_severed) tunnel_end(lane, tunnel, RELAY_SEVERED);
    else admit(lane, tunnel);
  }
  return !is_stopping;
}

/* ---- turns ---- */

/* Whether a turn that moved `bytes` was one more for the other lane. One that moved nothing says nothing. */
static bool is_misplaced(const struct lane *lane, struct tunnel *tunnel, uint64_t bytes) {
  bool is_bulk = bytes >= BULK_BYTES;
  if (bytes > 0) tunnel->misfits = is_bulk != lane->kind->is_for_bulk ? tunnel->misfits + 1 : 0;
  return tunnel->misfits >= lane->kind->max_misfits && tunnel->way[0].pipe == NULL && tunnel->way[1].pipe == NULL;
}

/* One turn of a tunnel: both ways, then what follows from it. */
static void serve(struct lane *lane, struct tunnel *tunnel) {
  enum progress progress[2];
  uint64_t before[2], after[2];
  relay_bytes(tunnel, before);
  for (int w = 0; w < 2; w++) progress[w] = pump(lane, tunnel, w);
  relay_bytes(tunnel, after);
  int broken = tunnel->broken;
  if (tunnel->is_over_budget) {
    tunnel_end(lane, tunnel, RELAY_LIMIT_BYTES);
  } else if (broken >= 0 && progress[broken] != HAS_MORE) {
    /* What a lost side had said before has been passed on as far as it could be. */
    tunnel_end(lane, tunnel, broken == 0 ? RELAY_CLIENT_ERROR : RELAY_UPSTREAM_ERROR);
  } else if (tunnel->way[0].closed && tunnel->way[1].closed) {
    tunnel_end(lane, tunnel, RELAY_BOTH_ENDED);
  } else if (is_misplaced(lane, tunnel, after[0] - before[0] + after[1] - before[1])) {
    move(lane, tunnel);
  } else if (progress[0] != WAITS || progress[1] != WAITS) {
    lane->is_hurried |= progress[0] == HAS_MORE || progress[1] == HAS_MORE;
    make_ready(lane, tunnel);
  }
}

/* One turn for each that was ready when it began; who has more comes behind who has become ready meanwhile. */
static void take_turns(struct lane *lane) {
  struct link turns = lane->ready;
  if (list_empty(&lane->ready)) return;
  turns.next->prev = turns.prev->next = &turns;
  list_init(&lane->ready);
  while (!list_empty(&turns)) {
    struct tunnel *tunnel = container(struct tunnel, ready, turns.next);
    list_remove(&tunnel->ready);
    tunnel->is_ready = false;
    serve(lane, tunnel);
  }
}

/* ---- the thread ---- */

static void mark(struct lane *lane, struct side *side, uint32_t events) {
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) side->readable = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) side->writable = true;
  if (events & (EPOLLRDHUP | EPOLLHUP)) side->hung = true;
  if (events & EPOLLERR) side_broke(side->tunnel, side);
  make_ready(lane, side->tunnel);
}

/* A deadline is only moved when it is met: activity costs no more than a time stamp. */
static void end_idle(struct lane *lane) {
  while (lane->heap_size > 0 && lane->heap[0]->deadline <= lane->now) {
    struct tunnel *tunnel = lane->heap[0];
    tunnel->deadline = tunnel->active_at + tunnel->idle_ms;
    if (tunnel->deadline <= lane->now) tunnel_end(lane, tunnel, RELAY_IDLE);
    else heap_down(lane, tunnel);
  }
}

static int timeout(const struct lane *lane) {
  if (lane->is_hurried) return 0;
  if (!list_empty(&lane->ready)) return STARVED_MS;
  if (lane->heap_size == 0) return -1;
  uint64_t deadline = lane->heap[0]->deadline, left = deadline > lane->now ? deadline - lane->now : 0;
  return left < 60000 ? (int)left : 60000;
}

/* What costs most in bulk data is waking the two ends, and a turn is the larger the more has come by then: who is awake goes on first. */
static void yield_to_all(void) {
  const struct sched_param none = {0};
  /* Where the system or the one who started this process has other ideas, turns are smaller and nothing else. */
  if (sched_getscheduler(0) == SCHED_OTHER) (void)sched_setscheduler(0, SCHED_BATCH, &none);
}

static void *run(void *argument) {
  struct lane *lane = argument;
  struct epoll_event events[MAX_EVENTS];
  if (lane->kind->is_for_bulk) yield_to_all();
  for (bool is_running = true; is_running;) {
    int n = epoll_wait(lane->epoll, events, MAX_EVENTS, timeout(lane));
    bool has_commands = false;
    lane->now = now_ms();
    lane->is_hurried = false;
    /* All events before any turn: no tunnel ends or moves while an event of this batch may still name it. */
    for (int i = 0; i < n; i++) {
      if (events[i].data.ptr == NULL) has_commands = true;
      else mark(lane, events[i].data.ptr, events[i].events);
    }
    take_turns(lane);
    end_idle(lane);
    if (has_commands) is_running = obey(lane);
  }
  while (lane->heap_size > 0) tunnel_end(lane, lane->heap[0], RELAY_SEVERED);
  return NULL;
}

/* Signals are the main thread's. A write to a lost connection raises SIGPIPE, which stays blocked here. */
static int start_thread(struct lane *lane) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&lane->thread, NULL, run, lane);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error == 0) (void)pthread_setname_np(lane->thread, lane->kind->name);
  return error;
}

static void close_parts(struct lane *lane) {
  if (lane->epoll >= 0) close(lane->epoll);
  if (lane->wake >= 0) close(lane->wake);
}

void lane_init(struct lane *lane, struct relay *relay, int which) {
  lane->relay = relay;
  lane->kind = &kinds[which];
  lane->other = &relay->lane[which == QUICK ? BULK : QUICK];
  list_init(&lane->commands);
  list_init(&lane->ready);
}

int lane_start(struct lane *lane) {
  lane->epoll = epoll_create1(EPOLL_CLOEXEC);
  lane->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  int error = 0;
  if (lane->epoll < 0 || lane->wake < 0 || epoll_ctl(lane->epoll, EPOLL_CTL_ADD, lane->wake, &event) < 0) error = errno;
  if (error == 0) error = start_thread(lane);
  if (error != 0) close_parts(lane);
  return error;
}

void lane_join(struct lane *lane) {
  lane_wake(lane);
  pthread_join(lane->thread, NULL);
}

void lane_end(struct lane *lane) {
  while (!list_empty(&lane->commands)) tunnel_end(lane, container(struct tunnel, shared, lane->commands.next), RELAY_SEVERED);
  while (lane->spare != NULL) {
    struct pipe *pipe = lane->spare;
    lane->spare = pipe->next;
    pipe_close(lane, pipe);
  }
  close_parts(lane);
  free(lane->heap);
}
