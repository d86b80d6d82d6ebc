/*
 * The relay for Node: Node-API only, one relay per create(), safe in several environments at once. Moves no byte.
 * A tunnel is known to JavaScript by its number, which is free for the next one once its end was told.
 */
#define NAPI_VERSION 8
#include "relay.h"

#include <errno.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct engine {
  napi_env env;
  napi_ref on_end;
  /* Until stop(); then NULL. */
  struct relay *relay;
  napi_threadsafe_function waker;
  bool is_held; /* the event loop waits for open tunnels */
  struct slot *slots;
  uint32_t slot_count, slot_room, free_slot, open_count;
};

/* A tunnel by its number; `next` links the free ones, their numbers counted from 1 so that 0 means none. */
struct slot {
  struct tunnel *tunnel;
  uint32_t next;
};

static napi_value number(napi_env env, double value) {
  napi_value result = NULL;
  (void)napi_create_double(env, value, &result);
  return result;
}

/* ---- numbers of tunnels ---- */

/* 0 when there is no memory, else the number plus one. */
static uint32_t slot_take(struct engine *engine) {
  if (engine->free_slot == 0) {
    if (engine->slot_count == engine->slot_room) {
      uint32_t room = engine->slot_room == 0 ? 64 : 2 * engine->slot_room;
      struct slot *slots = realloc(engine->slots, room * sizeof *slots);
      if (slots == NULL) return 0;
      engine->slots = slots;
      engine->slot_room = room;
    }
    engine->slots[engine->slot_count] = (struct slot){0};
    return ++engine->slot_count;
  }
  uint32_t taken = engine->free_slot;
  engine->free_slot = engine->slots[taken - 1].next;
  return taken;
}

static void slot_free(struct engine *engine, uint32_t id) {
  engine->slots[id] = (struct slot){.next = engine->free_slot};
  engine->free_slot = id + 1;
}

/* Open tunnels keep the event loop alive, as open sockets would. */
static void count_open(struct engine *engine, bool is_more) {
  engine->open_count = is_more ? engine->open_count + 1 : engine->open_count - 1;
  bool is_wanted = engine->open_count > 0;
  if (is_wanted == engine->is_held) return;
  engine->is_held = is_wanted;
  if (is_wanted) (void)napi_ref_threadsafe_function(engine->env, engine->waker);
  else (void)napi_unref_threadsafe_function(engine->env, engine->waker);
}

/* ---- the ends, told in batches ---- */

static void tell(struct engine *engine, napi_value on_end, uint32_t id, const struct relay_end *end) {
  napi_env env = engine->env;
  napi_handle_scope scope;
  napi_value global, result;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value values[] = {
    number(env, id),
    number(env, end->cause),
    number(env, (double)end->bytes[RELAY_UP]),
    number(env, (double)end->bytes[RELAY_DOWN]),
  };
  if (napi_get_global(env, &global) == napi_ok && napi_call_function(env, global, on_end, 4, values, &result) == napi_pending_exception &&
      napi_get_and_clear_last_exception(env, &result) == napi_ok)
    /* Somebody's bug; the tunnels behind this one have ended all the same. */
    (void)napi_fatal_exception(env, result);
  (void)napi_close_handle_scope(env, scope);
}

/* One wake-up brings everything that has ended by now. The number is free before it is told, so that a new tunnel may have it. */
static void tell_all(struct engine *engine) {
  struct relay_end end;
  napi_value on_end;
  if (napi_get_reference_value(engine->env, engine->on_end, &on_end) != napi_ok) return;
  for (void *owner; engine->relay != NULL && (owner = relay_collect(engine->relay, &end)) != NULL;) {
    uint32_t id = (uint32_t)(uintptr_t)owner - 1;
    slot_free(engine, id);
    count_open(engine, false);
    tell(engine, on_end, id, &end);
  }
}

/* On any thread of the relay, two at once perhaps. */
static void on_ended(void *context) {
  struct engine *engine = context;
  (void)napi_call_threadsafe_function(engine->waker, NULL, napi_tsfn_nonblocking);
}

/* On the thread of JavaScript; without an environment when that is going down. */
static void on_wake(napi_env env, napi_value unused, void *context, void *data) {
  (void)unused;
  (void)data;
  if (env != NULL) tell_all(context);
}

/* ---- start and stop ---- */

static void halt(void *data);

/* False when the machine has no thread or descriptor to give. */
static bool start(struct engine *engine) {
  napi_env env = engine->env;
  napi_value name;
  if (napi_create_string_utf8(env, "sallyport relay", NAPI_AUTO_LENGTH, &name) != napi_ok) return false;
  if (napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, NULL, engine, on_wake, &engine->waker) != napi_ok)
    return false;
  (void)napi_unref_threadsafe_function(env, engine->waker);
  engine->relay = relay_start(on_ended, engine);
  if (engine->relay == NULL) {
    (void)napi_release_threadsafe_function(engine->waker, napi_tsfn_abort);
    return false;
  }
  /* After the waker, hence before it at the end: no thread may be left to call it. */
  (void)napi_add_env_cleanup_hook(env, halt, engine);
  return true;
}

/* Frees what belonged to the threads, which are over. */
static void give_back(struct engine *engine) {
  struct relay_end end;
  while (relay_collect(engine->relay, &end) != NULL) continue;
  relay_free(engine->relay);
  engine->relay = NULL;
  free(engine->slots);
  engine->slots = NULL;
  engine->slot_count = engine->slot_room = engine->free_slot = engine->open_count = 0;
  engine->is_held = false;
  (void)napi_release_threadsafe_function(engine->waker, napi_tsfn_abort);
}

/* The environment goes down: nobody is told. */
static void halt(void *data) {
  struct engine *engine = data;
  relay_stop(engine->relay);
  give_back(engine);
}

static void engine_finalize(napi_env env, void *data, void *hint) {
  (void)hint;
  struct engine *engine = data;
  if (engine->relay != NULL) {
    (void)napi_remove_env_cleanup_hook(env, halt, engine);
    halt(engine);
  }
  (void)napi_delete_reference(env, engine->on_end);
  free(engine);
}

/* ---- what JavaScript calls ---- */

#define MAX_ARGUMENTS 7

/* Reads the engine and `count` numbers behind it; throws and gives NULL when they are not there. */
static struct engine *arguments(napi_env env, napi_callback_info info, size_t count, double *numbers) {
  napi_value values[1 + MAX_ARGUMENTS];
  size_t given = 1 + count;
  void *engine = NULL;
  bool is_right = napi_get_cb_info(env, info, &given, values, NULL, NULL) == napi_ok && given >= 1 + count;
  is_right = is_right && napi_get_value_external(env, values[0], &engine) == napi_ok;
  for (size_t i = 0; is_right && i < count; i++)
    is_right = napi_get_value_double(env, values[1 + i], &numbers[i]) == napi_ok;
  if (is_right) return engine;
  (void)napi_throw_type_error(env, NULL, "bug: the relay was called with the wrong arguments");
  return NULL;
}

/* The slot of a number that is in use, or NULL. */
static struct slot *slot_of(struct engine *engine, double id) {
  if (!(id >= 0 && id < (double)engine->slot_count)) return NULL;
  struct slot *slot = &engine->slots[(uint32_t)id];
  return slot->tunnel == NULL ? NULL : slot;
}

/* create(onEnd): an engine, its threads running. */
static napi_value create(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value on_end, result = NULL;
  napi_valuetype type;
  struct engine *engine = calloc(1, sizeof *engine);
  if (engine == NULL) return NULL;
  engine->env = env;
  if (napi_get_cb_info(env, info, &count, &on_end, NULL, NULL) != napi_ok || napi_typeof(env, on_end, &type) != napi_ok ||
      type != napi_function || napi_create_reference(env, on_end, 1, &engine->on_end) != napi_ok) {
    free(engine);
    (void)napi_throw_type_error(env, NULL, "bug: create(onEnd) needs a function");
  } else if (!start(engine)) {
    (void)napi_delete_reference(env, engine->on_end);
    free(engine);
    (void)napi_throw_error(env, NULL, "there is no thread or descriptor left for the relay");
  } else if (napi_create_external(env, engine, engine_finalize, NULL, &result) != napi_ok) {
    engine_finalize(env, engine, NULL);
    return NULL;
  }
  return result;
}

static uint64_t budget_of(double value) {
  /* Infinity means none. Past 2^53 a double is no count of bytes any more. */
  return value < 9007199254740992.0 ? (uint64_t)value : RELAY_NO_BUDGET;
}

static void reset(int fd) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(fd);
}

/* open(engine, clientFd, upstreamFd, upSent, downSent, upBudget, downBudget, idleMs): the number of the tunnel, or -1 and both are reset. */
static napi_value open_tunnel(napi_env env, napi_callback_info info) {
  double given[7];
  struct engine *engine = arguments(env, info, 7, given);
  if (engine == NULL) return NULL;
  const int fds[2] = {(int)given[0], (int)given[1]};
  struct relay_limits limits = {
    .sent = {(uint64_t)given[2], (uint64_t)given[3]},
    .budget = {budget_of(given[4]), budget_of(given[5])},
    .idle_ms = given[6] < 4294967295.0 ? (uint32_t)given[6] : UINT32_MAX,
  };
  uint32_t taken = engine->relay == NULL ? 0 : slot_take(engine);
  struct tunnel *tunnel = taken == 0 ? NULL : relay_open(engine->relay, fds, (void *)(uintptr_t)taken, &limits);
  if (tunnel == NULL) {
    if (taken != 0) slot_free(engine, taken - 1);
    reset(fds[0]);
    reset(fds[1]);
    return number(env, -1);
  }
  engine->slots[taken - 1] = (struct slot){.tunnel = tunnel};
  count_open(engine, true);
  return number(env, taken - 1);
}

/* flush(engine): the thread hears of what was opened. */
static napi_value flush(napi_env env, napi_callback_info info) {
  struct engine *engine = arguments(env, info, 0, NULL);
  if (engine != NULL && engine->relay != NULL) relay_flush(engine->relay);
  return NULL;
}

/* sever(engine, id) */
static napi_value sever(napi_env env, napi_callback_info info) {
  double id;
  struct engine *engine = arguments(env, info, 1, &id);
  struct slot *slot = engine == NULL ? NULL : slot_of(engine, id);
  if (slot != NULL) relay_sever(engine->relay, slot->tunnel);
  return NULL;
}

/* bytes(engine, id, out): writes up and down to `out`, a Float64Array of two. */
static napi_value bytes(napi_env env, napi_callback_info info) {
  napi_value values[3];
  size_t count = 3, length = 0;
  void *engine = NULL, *out = NULL;
  double id = -1;
  napi_typedarray_type type;
  uint64_t counts[2];
  if (napi_get_cb_info(env, info, &count, values, NULL, NULL) != napi_ok || count < 3 ||
      napi_get_value_external(env, values[0], &engine) != napi_ok ||
      napi_get_value_double(env, values[1], &id) != napi_ok ||
      napi_get_typedarray_info(env, values[2], &type, &length, &out, NULL, NULL) != napi_ok ||
      type != napi_float64_array || length < 2) {
    (void)napi_throw_type_error(env, NULL, "bug: bytes(engine, id, Float64Array)");
    return NULL;
  }
  struct slot *slot = slot_of(engine, id);
  if (slot == NULL) return NULL;
  relay_bytes(slot->tunnel, counts);
  for (int w = 0; w < 2; w++) ((double *)out)[w] = (double)counts[w];
  return NULL;
}

/* stop(engine): severs what is open and ends the threads for good; the ends are told before it returns. */
static napi_value stop(napi_env env, napi_callback_info info) {
  struct engine *engine = arguments(env, info, 0, NULL);
  if (engine == NULL || engine->relay == NULL) return NULL;
  (void)napi_remove_env_cleanup_hook(env, halt, engine);
  relay_stop(engine->relay);
  tell_all(engine);
  give_back(engine);
  return NULL;
}

NAPI_MODULE_INIT() {
  const napi_property_descriptor properties[] = {
    {"create", NULL, create, NULL, NULL, NULL, napi_enumerable, NULL},
    {"open", NULL, open_tunnel, NULL, NULL, NULL, napi_enumerable, NULL},
    {"flush", NULL, flush, NULL, NULL, NULL, napi_enumerable, NULL},
    {"sever", NULL, sever, NULL, NULL, NULL, napi_enumerable, NULL},
    {"bytes", NULL, bytes, NULL, NULL, NULL, napi_enumerable, NULL},
    {"stop", NULL, stop, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  (void)napi_define_properties(env, exports, sizeof properties / sizeof *properties, properties);
  return exports;
}
