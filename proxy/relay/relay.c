/*
 * The native relay as its caller sees it: starts and stops the lanes, hands tunnels to them and collects the ends. Moves no byte: lane.c and
 * pump.c do.
 *
 * A tunnel has two sides, client (0) and upstream (1), and two ways: way w goes from side w to side !w. A way holds a pipe
 * only while bytes are in it, so that ten thousand idle tunnels hold none. INVARIANT: a way takes bytes only into an empty pipe.
 */
#define _GNU_SOURCE
#include "tunnel.h"

#include <errno.h>
#include <stdlib.h>

/* Ends the first `count` lanes. */
static void stop_lanes(struct relay *relay, int count) {
  pthread_mutex_lock(&relay->lock);
  relay->is_stopping = true;
  pthread_mutex_unlock(&relay->lock);
  for (int i = 0; i < count; i++) lane_join(&relay->lane[i]);
  /* Only now is nothing handed from one to the other any more. */
  for (int i = 0; i < count; i++) lane_end(&relay->lane[i]);
}

struct relay *relay_start(void (*on_ended)(void *), void *context) {
  struct relay *relay = calloc(1, sizeof *relay);
  if (relay == NULL) return NULL;
  relay->on_ended = on_ended;
  relay->context = context;
  list_init(&relay->ended);
  pthread_mutex_init(&relay->lock, NULL);
  for (int i = 0; i < LANES; i++) lane_init(&relay->lane[i], relay, i);
  for (int i = 0; i < LANES; i++) {
    int error = lane_start(&relay->lane[i]);
    if (error == 0) continue;
    stop_lanes(relay, i);
    relay_free(relay);
    errno = error;
    return NULL;
  }
  return relay;
}

void relay_stop(struct relay *relay) { stop_lanes(relay, LANES); }

void relay_free(struct relay *relay) {
  pthread_mutex_destroy(&relay->lock);
  free(relay);
}

struct tunnel *relay_open(struct relay *relay, const int fds[2], void *owner, const struct relay_limits *limits) {
  struct lane *lane = &relay->lane[QUICK];
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
  (void)lane_command(lane, tunnel);
  pthread_mutex_unlock(&relay->lock);
  return tunnel;
}

void relay_flush(struct relay *relay) { lane_wake(&relay->lane[QUICK]); }

void relay_sever(struct relay *relay, struct tunnel *tunnel) {
  struct lane *lane = NULL;
  pthread_mutex_lock(&relay->lock);
  tunnel->is_severed = true;
  /* A command that is under way already takes it along, in either lane. */
  if (!tunnel->is_over && !tunnel->is_queued && lane_command(tunnel->lane, tunnel)) lane = tunnel->lane;
  pthread_mutex_unlock(&relay->lock);
  if (lane != NULL) lane_wake(lane);
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
