/*
 * Processes that fight over a board: limits at their edge, and 200 deaths at any instruction. Seeded by its first argument. Prints nothing when
 * all is well. Built and run by board.test.ts, and under the sanitizers.
 */
#define _GNU_SOURCE
#include "../../../proxy/workers/board.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 4, PRINCIPALS = 3, SLOTS = 64, ROUNDS = 6000, KILLS = 200, LIMIT = 5, PER_PRINCIPAL = 3, RACERS = 2, SPINS = 5000, CROWD = 2 };

/* What the fighters tell each other besides the board. */
struct ring {
  _Atomic uint32_t arrived[2], winners, wrong, lives;
  _Atomic int64_t inside;
};

static struct board board;
static struct ring *ring;

static void fail(const char *what) {
  printf("%s\n", what);
  exit(1);
}

static void *shared(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("no memory");
  return memory;
}

static pid_t start(void (*run)(uint32_t), uint32_t worker) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  run(worker);
  _exit(0);
}

/* Spins, so that those who meet leave at the same moment; a busy machine may need a while. */
static void meet(uint32_t at, uint32_t round) {
  (void)atomic_fetch_add(&ring->arrived[at], 1);
  for (uint32_t spins = 0; atomic_load(&ring->arrived[at]) < RACERS * (round + 1); spins++)
    if (spins > SPINS) (void)sched_yield();
}

/* Two ask for the last place at once: exactly one has it, every time. */
static void race(uint32_t worker) {
  for (uint32_t round = 0; worker < RACERS && round < ROUNDS; round++) {
    meet(0, round);
    bool is_mine = board_take(&board, worker, 0, 0, 1, 1);
    if (is_mine) (void)atomic_fetch_add(&ring->winners, 1);
    meet(1, round);
    if (is_mine) board_give(&board, worker, 0, 0);
  }
}

/* Nobody counts wrong: those who are in are never more than the limit. */
static void crowd(uint32_t worker) {
  for (uint32_t round = 0; round < ROUNDS / 4; round++) {
    if (!board_take(&board, worker, 0, worker % PRINCIPALS, CROWD, CROWD)) continue;
    if (atomic_fetch_add(&ring->inside, 1) >= CROWD) (void)atomic_fetch_add(&ring->wrong, 1);
    (void)sched_yield();
    (void)atomic_fetch_sub(&ring->inside, 1);
    board_give(&board, worker, 0, worker % PRINCIPALS);
  }
}

/* Takes, writes, counts and gives until it is killed. */
static void live(uint32_t worker) {
  (void)atomic_fetch_add(&ring->lives, 1);
  for (uint32_t turn = 0;; turn++) {
    uint32_t principal = turn % PRINCIPALS, slot = turn % SLOTS;
    char record[BOARD_RECORD_BYTES];
    memset(record, 'a' + (int)(turn % 26), sizeof record);
    board_write(&board, worker, slot, record, 1 + turn % BOARD_RECORD_BYTES);
    bool has_place = board_take(&board, worker, turn % BOARD_KINDS, principal, LIMIT, PER_PRINCIPAL);
    atomic_store(&board_slot(&board, worker, slot)->phase, turn % 4);
    if (has_place) board_give(&board, worker, turn % BOARD_KINDS, principal);
    board_beat(&board, worker);
  }
}

/* A record is whole or is none. */
static void check_records(uint32_t worker) {
  char record[BOARD_RECORD_BYTES];
  for (uint32_t slot = 0; slot < board_used(&board, worker); slot++) {
    int32_t length = board_read(board_slot(&board, worker, slot), record);
    for (int32_t at = 1; at < length; at++)
      if (record[at] != record[0]) fail("a torn record was read");
  }
}

static void await_all(const pid_t *pids) {
  for (uint32_t worker = 0; worker < WORKERS; worker++) (void)waitpid(pids[worker], NULL, 0);
}

static void kill_at_random(void) {
  pid_t pids[WORKERS];
  for (uint32_t worker = 0; worker < WORKERS; worker++) pids[worker] = start(live, worker);
  for (uint32_t kills = 0; kills < KILLS; kills++) {
    uint32_t worker = (uint32_t)rand() % WORKERS;
    while (atomic_load(&ring->lives) < WORKERS + kills) (void)sched_yield();
    (void)usleep((useconds_t)(rand() % 500));
    (void)kill(pids[worker], SIGKILL);
    (void)waitpid(pids[worker], NULL, 0);
    check_records(worker);
    board_forget(&board, worker);
    pids[worker] = start(live, worker);
  }
  for (uint32_t worker = 0; worker < WORKERS; worker++) (void)kill(pids[worker], SIGKILL);
  await_all(pids);
  for (uint32_t worker = 0; worker < WORKERS; worker++) board_forget(&board, worker);
  for (uint32_t kind = 0; kind < BOARD_KINDS; kind++)
    if (board_open(&board, kind) != 0) fail("places were lost with their owners");
  for (uint32_t taken = 0; taken < LIMIT; taken++)
    if (!board_take(&board, 0, 0, taken % PRINCIPALS, LIMIT, PER_PRINCIPAL)) fail("a free place was refused");
  if (board_take(&board, 1, 0, 1, LIMIT, PER_PRINCIPAL)) fail("one more than the limit was let in");
}

static void all_run(void (*run)(uint32_t)) {
  pid_t pids[WORKERS];
  for (uint32_t worker = 0; worker < WORKERS; worker++) pids[worker] = start(run, worker);
  await_all(pids);
  if (board_open(&board, 0) != 0) fail("not every place was given back");
}

int main(int count, char **arguments) {
  srand(count > 1 ? (unsigned)atoi(arguments[1]) : 1);
  board.shape = (struct board_shape){WORKERS, PRINCIPALS, SLOTS};
  board.bytes = board_size(board.shape);
  board.memory = shared(board.bytes);
  ring = shared(sizeof *ring);
  all_run(race);
  if (atomic_load(&ring->winners) != ROUNDS) fail("a place that was free had no taker, or two");
  all_run(crowd);
  if (atomic_load(&ring->wrong) != 0) fail("more than the limit were in");
  kill_at_random();
  return 0;
}
