/* The open tunnels as a binary heap, the nearest deadline first. Knows no clock. */
#include "tunnel.h"

#include <stdlib.h>

static void heap_set(struct relay *relay, size_t at, struct tunnel *tunnel) {
  relay->heap[at] = tunnel;
  tunnel->heap_at = at;
}

static void heap_up(struct relay *relay, struct tunnel *tunnel) {
  size_t at = tunnel->heap_at;
  for (; at > 0; at = (at - 1) / 2) {
    struct tunnel *parent = relay->heap[(at - 1) / 2];
    if (parent->deadline <= tunnel->deadline) break;
    heap_set(relay, at, parent);
  }
  heap_set(relay, at, tunnel);
}

void heap_down(struct relay *relay, struct tunnel *tunnel) {
  size_t at = tunnel->heap_at;
  for (size_t child; (child = 2 * at + 1) < relay->heap_size; at = child) {
    if (child + 1 < relay->heap_size && relay->heap[child + 1]->deadline < relay->heap[child]->deadline) child++;
    if (tunnel->deadline <= relay->heap[child]->deadline) break;
    heap_set(relay, at, relay->heap[child]);
  }
  heap_set(relay, at, tunnel);
}

bool heap_add(struct relay *relay, struct tunnel *tunnel) {
  if (relay->heap_size == relay->heap_room) {
    size_t room = relay->heap_room == 0 ? 256 : 2 * relay->heap_room;
    struct tunnel **heap = realloc(relay->heap, room * sizeof *heap);
    if (heap == NULL) return false;
    relay->heap = heap;
    relay->heap_room = room;
  }
  tunnel->heap_at = relay->heap_size++;
  heap_up(relay, tunnel);
  return true;
}

void heap_remove(struct relay *relay, struct tunnel *tunnel) {
  struct tunnel *last = relay->heap[--relay->heap_size];
  if (last == tunnel) return;
  heap_set(relay, tunnel->heap_at, last);
  heap_up(relay, last);
  heap_down(relay, last);
}
