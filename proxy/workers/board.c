/*
 * The shared memory itself: plain C11 atomics on a MAP_SHARED mapping, no lock anywhere. What is counted per worker is
 * summed by whoever asks, so that the places of a dead worker are given back by setting its own counts to zero.
 */
#include "board.h"

#include <sched.h>
#include <string.h>

enum { LINE = 64, MAX_WORKERS = 256, MAX_PRINCIPALS = 65536, MAX_SLOTS = 1 << 22, MAX_TRIES = 10000 };

_Static_assert(sizeof(struct board_slot) <= 1024, "two records and more share a page");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "a lock in shared memory would outlive its owner");

static size_t rounded(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

/* One worker: its beats, its slots in use, then per kind a count in all and one for each principal. */
static size_t worker_bytes(struct board_shape shape) {
  return rounded(2 * sizeof(uint64_t) + BOARD_KINDS * (size_t)(shape.principals + 1) * sizeof(int64_t));
}

static size_t rates_at(struct board_shape shape) { return shape.workers * worker_bytes(shape); }

static size_t slots_at(struct board_shape shape) { return rates_at(shape) + rounded(shape.principals * sizeof(int64_t)); }

size_t board_size(struct board_shape shape) {
  if (shape.workers == 0 || shape.workers > MAX_WORKERS || shape.principals == 0 || shape.principals > MAX_PRINCIPALS) return 0;
  if (shape.slots == 0 || shape.slots > MAX_SLOTS) return 0;
  return slots_at(shape) + (size_t)shape.workers * shape.slots * sizeof(struct board_slot);
}

static _Atomic uint64_t *beats_of(struct board *board, uint32_t worker) {
  return (_Atomic uint64_t *)(void *)(board->memory + worker * worker_bytes(board->shape));
}

static _Atomic uint64_t *used_of(struct board *board, uint32_t worker) { return beats_of(board, worker) + 1; }

/* `principal` counted from 1; 0 is the count in all. */
static _Atomic int64_t *count_of(struct board *board, uint32_t worker, uint32_t kind, uint32_t principal) {
  unsigned char *counts = board->memory + worker * worker_bytes(board->shape) + 2 * sizeof(uint64_t);
  return (_Atomic int64_t *)(void *)counts + kind * (board->shape.principals + 1) + principal;
}

static int64_t sum(struct board *board, uint32_t kind, uint32_t principal) {
  int64_t total = 0;
  for (uint32_t worker = 0; worker < board->shape.workers; worker++) total += atomic_load(count_of(board, worker, kind, principal));
  return total;
}

static void add(struct board *board, uint32_t worker, uint32_t kind, uint32_t principal, int64_t one) {
  atomic_fetch_add(count_of(board, worker, kind, 0), one);
  atomic_fetch_add(count_of(board, worker, kind, principal + 1), one);
}

/*
 * Adds itself first and looks then: of those who hold a place, the one who added last saw all the others, so there are never more
 * than the limit. Two who meet at the last place may both see too many and both step back; the one who steps back last
 * sees that a place is free, and tries again.
 */
bool board_take(struct board *board, uint32_t worker, uint32_t kind, uint32_t principal, int64_t max_all, int64_t max_each) {
  for (uint32_t tries = 0; tries < MAX_TRIES; tries++) {
    add(board, worker, kind, principal, 1);
    if (sum(board, kind, 0) <= max_all && sum(board, kind, principal + 1) <= max_each) return true;
    add(board, worker, kind, principal, -1);
    if (sum(board, kind, 0) >= max_all || sum(board, kind, principal + 1) >= max_each) return false;
    /* Not in step with the other one. */
    if (tries > worker) (void)sched_yield();
  }
  return false;
}

void board_give(struct board *board, uint32_t worker, uint32_t kind, uint32_t principal) { add(board, worker, kind, principal, -1); }

int64_t board_open(struct board *board, uint32_t kind) { return sum(board, kind, 0); }

void board_forget(struct board *board, uint32_t worker) {
  for (uint32_t kind = 0; kind < BOARD_KINDS; kind++)
    for (uint32_t principal = 0; principal <= board->shape.principals; principal++)
      atomic_store(count_of(board, worker, kind, principal), 0);
  for (uint32_t slot = 0; slot < board_used(board, worker); slot++) atomic_store(&board_slot(board, worker, slot)->phase, BOARD_FREE);
}

/* The generic cell rate algorithm: one word, the time at which the bucket would be full again. */
bool board_pass(struct board *board, uint32_t principal, int64_t now, int64_t interval, int64_t burst) {
  _Atomic int64_t *rate = (_Atomic int64_t *)(void *)(board->memory + rates_at(board->shape)) + principal;
  int64_t full_at = atomic_load(rate), next;
  do {
    int64_t from = full_at > now ? full_at : now;
    if (from - now > (burst - 1) * interval) return false;
    next = from + interval;
  } while (!atomic_compare_exchange_weak(rate, &full_at, next));
  return true;
}

void board_beat(struct board *board, uint32_t worker) { atomic_fetch_add(beats_of(board, worker), 1); }

uint64_t board_beats(struct board *board, uint32_t worker) { return atomic_load(beats_of(board, worker)); }

struct board_slot *board_slot(struct board *board, uint32_t worker, uint32_t slot) {
  struct board_slot *slots = (struct board_slot *)(void *)(board->memory + slots_at(board->shape));
  return &slots[(size_t)worker * board->shape.slots + slot];
}

uint32_t board_used(struct board *board, uint32_t worker) { return (uint32_t)atomic_load(used_of(board, worker)); }

void board_write(struct board *board, uint32_t worker, uint32_t number, const char *record, uint32_t length) {
  struct board_slot *slot = board_slot(board, worker, number);
  if (number >= atomic_load(used_of(board, worker))) atomic_store(used_of(board, worker), number + 1);
  /* Odd, whatever a writer that died here left. */
  uint32_t sequence = atomic_load(&slot->sequence) | 1;
  atomic_store(&slot->sequence, sequence);
  memcpy(slot->record, record, length);
  slot->length = length;
  atomic_store(&slot->up, 0);
  atomic_store(&slot->down, 0);
  atomic_store(&slot->phase, BOARD_ENTERED);
  atomic_store(&slot->sequence, sequence + 1);
}

int32_t board_read(struct board_slot *slot, char record[BOARD_RECORD_BYTES]) {
  uint32_t before = atomic_load(&slot->sequence);
  if (before % 2 == 1 || atomic_load(&slot->phase) == BOARD_FREE || slot->length > BOARD_RECORD_BYTES) return -1;
  uint32_t length = slot->length;
  memcpy(record, slot->record, length);
  return atomic_load(&slot->sequence) == before ? (int32_t)length : -1;
}
