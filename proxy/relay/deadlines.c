/* The open tunnels as a binary heap, the nearest deadline first. Knows no clock. */
#include "tunnel.h"

#include <stdlib.h>

static void heap_set(struct lane *lane, size_t at, struct tunnel *tunnel) {
  lane->heap[at] = tunnel;
  tunnel->heap_at = at;
}

static void heap_up(struct lane *lane, struct tunnel *tunnel) {
  size_t at = tunnel->heap_at;
  for (; at > 0; at = (at - 1) / 2) {
    struct tunnel *parent = lane->heap[(at - 1) / 2];
    if (parent->deadline <= tunnel->deadline) break;
    heap_set(lane, at, parent);
  }
  heap_set(lane, at, tunnel);
}

void heap_down(struct lane *lane, struct tunnel *tunnel) {
  size_t at = tunnel->heap_at;
  for (size_t child; (child = 2 * at + 1) < lane->heap_size; at = child) {
    if (child + 1 < lane->heap_size && lane->heap[child + 1]->deadline < lane->heap[child]->deadline) child++;
    if (tunnel->deadline <= lane->heap[child]->deadline) break;
    heap_set(lane, at, lane->heap[child]);
  }
  heap_set(lane, at, tunnel);
}

bool heap_add(struct lane *lane, struct tunnel *tunnel) {
  if (lane->heap_size == lane->heap_room) {
    size_t room = lane->heap_room == 0 ? 256 : 2 * lane->heap_room;
    struct tunnel **heap = realloc(lane->heap, room * sizeof *heap);
    if (heap == NULL) return false;
    lane->heap = heap;
    lane->heap_room = room;
  }
  tunnel->heap_at = lane->heap_size++;
  heap_up(lane, tunnel);
  return true;
}

void heap_remove(struct lane *lane, struct tunnel *tunnel) {
  struct tunnel *last = lane->heap[--lane->heap_size];
  if (last == tunnel) return;
  heap_set(lane, tunnel->heap_at, last);
  heap_up(lane, last);
  heap_down(lane, last);
}
