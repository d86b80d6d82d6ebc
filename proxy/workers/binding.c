/*
 * The board for Node, and what else one process of a proxy needs of the kernel: a shared memory, and to die with its
 * parent. Node-API only; keeps no state of its own.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include "board.h"

#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 7 };

struct call {
  napi_env env;
  napi_value values[MAX_ARGUMENTS];
};

static struct call arguments(napi_env env, napi_callback_info info) {
  struct call call = {.env = env};
  size_t count = MAX_ARGUMENTS;
  (void)napi_get_cb_info(env, info, &count, call.values, NULL, NULL);
  return call;
}

static double number_at(const struct call *call, size_t at) {
  double value = 0;
  (void)napi_get_value_double(call->env, call->values[at], &value);
  return value;
}

static uint32_t index_at(const struct call *call, size_t at) {
  double value = number_at(call, at);
  return value >= 0 && value <= UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

static napi_value number(napi_env env, double value) {
  napi_value result = NULL;
  (void)napi_create_double(env, value, &result);
  return result;
}

static napi_value boolean(napi_env env, bool value) {
  napi_value result = NULL;
  (void)napi_get_boolean(env, value, &result);
  return result;
}

static napi_value out_of_range(napi_env env) {
  (void)napi_throw_range_error(env, NULL, "bug: out of the board");
  return NULL;
}

/* ---- the memory ---- */

static struct board_shape shape_at(const struct call *call, size_t at) {
  return (struct board_shape){index_at(call, at), index_at(call, at + 1), index_at(call, at + 2)};
}

/* create(workers, principals, slots): a descriptor that a child inherits only when it is given it, or -errno. */
static napi_value create(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  size_t bytes = board_size(shape_at(&call, 0));
  if (bytes == 0) return number(env, -EINVAL);
  int fd = memfd_create("sallyport-board", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return number(env, -errno);
  /* Sealed: no worker can make another one fault by cutting it. */
  if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
    int problem = errno;
    (void)close(fd);
    return number(env, -problem);
  }
  return number(env, fd);
}

static void unmap(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct board *board = data;
  (void)munmap(board->memory, board->bytes);
  free(board);
}

/* map(fd, workers, principals, slots): the board, or -errno. */
static napi_value map(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board_shape shape = shape_at(&call, 1);
  struct stat file;
  int fd = (int)index_at(&call, 0);
  size_t bytes = board_size(shape);
  if (fstat(fd, &file) < 0) return number(env, -errno);
  if (bytes == 0 || (size_t)file.st_size != bytes) return number(env, -EINVAL);
  struct board *board = malloc(sizeof *board);
  if (board == NULL) return number(env, -ENOMEM);
  *board = (struct board){shape, mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), bytes};
  if (board->memory == MAP_FAILED) {
    int problem = errno;
    free(board);
    return number(env, -problem);
  }
  napi_value result;
  if (napi_create_external(env, board, unmap, NULL, &result) == napi_ok) return result;
  unmap(env, board, NULL);
  return NULL;
}

static struct board *board_at(const struct call *call) {
  void *board = NULL;
  return napi_get_value_external(call->env, call->values[0], &board) == napi_ok ? board : NULL;
}

/* ---- places and rates ---- */

static bool is_place(const struct board *board, const struct call *call) {
  return board != NULL && index_at(call, 1) < board->shape.workers && index_at(call, 2) < BOARD_KINDS && index_at(call, 3) < board->shape.principals;
}

/* take(board, worker, kind, principal, maxAll, maxEach) */
static napi_value take(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board *board = board_at(&call);
  if (!is_place(board, &call)) return out_of_range(env);
  int64_t max_all = (int64_t)number_at(&call, 4), max_each = (int64_t)number_at(&call, 5);
  return boolean(env, board_take(board, index_at(&call, 1), index_at(&call, 2), index_at(&call, 3), max_all, max_each));
}

/* give(board, worker, kind, principal) */
static napi_value give(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board *board = board_at(&call);
  if (!is_place(board, &call)) return out_of_range(env);
  board_give(board, index_at(&call, 1), index_at(&call, 2), index_at(&call, 3));
  return NULL;
}

/* held(board, kind) */
static napi_value held(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board *board = board_at(&call);
  if (board == NULL || index_at(&call, 1) >= BOARD_KINDS) return out_of_range(env);
  return number(env, (double)board_open(board, index_at(&call, 1)));
}

/* pass(board, principal, now, interval, burst); times in ns. */
static napi_value pass(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board *board = board_at(&call);
  if (board == NULL || index_at(&call, 1) >= board->shape.principals) return out_of_range(env);
  int64_t now = (int64_t)number_at(&call, 2), interval = (int64_t)number_at(&call, 3), burst = (int64_t)number_at(&call, 4);
  return boolean(env, board_pass(board, index_at(&call, 1), now, interval, burst));
}

/* ---- one worker ---- */

static struct board *worker_at(const struct call *call) {
  struct board *board = board_at(call);
  return board != NULL && index_at(call, 1) < board->shape.workers ? board : NULL;
}

/* forget(board, worker) */
static napi_value forget(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board *board = worker_at(&call);
  if (board == NULL) return out_of_range(env);
  board_forget(board, index_at(&call, 1));
  return NULL;
}

/* beat(board, worker) */
static napi_value beat(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board *board = worker_at(&call);
  if (board == NULL) return out_of_range(env);
  board_beat(board, index_at(&call, 1));
  return NULL;
}

/* beats(board, worker) */
static napi_value beats(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board *board = worker_at(&call);
  if (board == NULL) return out_of_range(env);
  return number(env, (double)board_beats(board, index_at(&call, 1)));
}

/* used(board, worker): the slots from here on were never written. */
static napi_value used(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board *board = worker_at(&call);
  if (board == NULL) return out_of_range(env);
  return number(env, board_used(board, index_at(&call, 1)));
}

/* ---- records ---- */

static struct board_slot *slot_at(const struct call *call) {
  struct board *board = worker_at(call);
  if (board == NULL || index_at(call, 2) >= board->shape.slots) return NULL;
  return board_slot(board, index_at(call, 1), index_at(call, 2));
}

/* write(board, worker, slot, record): false when the record is too long. */
static napi_value write_record(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board_slot *slot = slot_at(&call);
  char record[BOARD_RECORD_BYTES + 5];
  size_t length;
  if (slot == NULL || napi_get_value_string_utf8(env, call.values[3], record, sizeof record, &length) != napi_ok) return out_of_range(env);
  if (length > BOARD_RECORD_BYTES) return boolean(env, false);
  board_write(board_at(&call), index_at(&call, 1), index_at(&call, 2), record, (uint32_t)length);
  return boolean(env, true);
}

/* mark(board, worker, slot, phase) */
static napi_value mark(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board_slot *slot = slot_at(&call);
  if (slot == NULL || index_at(&call, 3) > BOARD_CLOSING) return out_of_range(env);
  atomic_store(&slot->phase, index_at(&call, 3));
  return NULL;
}

/* count(board, worker, slot, up, down) */
static napi_value count(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board_slot *slot = slot_at(&call);
  if (slot == NULL) return out_of_range(env);
  atomic_store(&slot->up, (int64_t)number_at(&call, 3));
  atomic_store(&slot->down, (int64_t)number_at(&call, 4));
  return NULL;
}

/* read(board, worker, slot, out): the record, or null; `out` gets phase, up, down. */
static napi_value read_record(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  struct board_slot *slot = slot_at(&call);
  char record[BOARD_RECORD_BYTES];
  void *data = NULL;
  size_t places = 0;
  napi_value result = NULL;
  if (slot == NULL || napi_get_typedarray_info(env, call.values[3], NULL, &places, &data, NULL, NULL) != napi_ok || places < 3)
    return out_of_range(env);
  double *out = data;
  out[0] = (double)atomic_load(&slot->phase);
  out[1] = (double)atomic_load(&slot->up);
  out[2] = (double)atomic_load(&slot->down);
  int32_t length = board_read(slot, record);
  if (length < 0) (void)napi_get_null(env, &result);
  else (void)napi_create_string_utf8(env, record, (size_t)length, &result);
  return result;
}

/* ---- the process ---- */

/* clock(): ns on the clock that all processes of this machine share and that does not jump. */
static napi_value clock_now(napi_env env, napi_callback_info info) {
  (void)info;
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return number(env, (double)now.tv_sec * 1e9 + (double)now.tv_nsec);
}

/* dieWith(parent): killed by the kernel when `parent` is gone; false when it is gone already. Forgotten when the user changes. */
static napi_value die_with(napi_env env, napi_callback_info info) {
  struct call call = arguments(env, info);
  bool is_held = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == (pid_t)number_at(&call, 0);
  return boolean(env, is_held);
}

NAPI_MODULE_INIT() {
  const struct {
    const char *name;
    napi_callback call;
  } functions[] = {
    {"create", create},
    {"map", map},
    {"take", take},
    {"give", give},
    {"held", held},
    {"pass", pass},
    {"forget", forget},
    {"beat", beat},
    {"beats", beats},
    {"used", used},
    {"write", write_record},
    {"mark", mark},
    {"count", count},
    {"read", read_record},
    {"clock", clock_now},
    {"dieWith", die_with},
  };
  for (size_t at = 0; at < sizeof functions / sizeof *functions; at++) {
    napi_value function;
    if (napi_create_function(env, functions[at].name, NAPI_AUTO_LENGTH, functions[at].call, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, functions[at].name, function) != napi_ok)
      return NULL;
  }
  return exports;
}
