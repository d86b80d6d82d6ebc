/*
 * The set-up engine in the event loop: a few handles, no thread and no lock. Tells JavaScript of batches; reads and writes nothing itself.
 * What belongs to an engine lives until JavaScript has dropped it and its handles are closed.
 */
#include "loop.h"

#include <errno.h>
#include <stdlib.h>

/* Batches in one wake-up, before the rest of the event loop has its turn. */
#define MAX_ROUNDS 8
#define HANDLES 3

/* ---- the end ---- */

static void free_when_over(struct binding *binding) {
  if (!binding->is_dropped || binding->open_handles > 0) return;
  engine_free(binding->engine);
  free(binding);
}

static void on_closed(uv_handle_t *handle) {
  struct binding *binding = handle->data;
  if (--binding->open_handles > 0) return;
  /* An environment that goes down waits for this. */
  (void)napi_remove_async_cleanup_hook(binding->hook);
  free_when_over(binding);
}

/* Nothing is written to the buffers any more, nobody told: else the function would keep the engine, and the engine the function. */
static void let_go(struct binding *binding) {
  napi_ref *references[] = {&binding->on_events, &binding->events, &binding->arena};
  for (size_t i = 0; i < sizeof references / sizeof *references; i++) {
    if (*references[i] != NULL) (void)napi_delete_reference(binding->env, *references[i]);
    *references[i] = NULL;
  }
}

/* Closes what the engine has open, at once; the handles are closed at the end of this turn of the loop. */
void loop_halt(struct binding *binding) {
  if (binding->is_stopped) return;
  binding->is_stopped = true;
  /* In this order: the loop lets go of the descriptor before it is closed. */
  uv_close((uv_handle_t *)&binding->poll, on_closed);
  uv_close((uv_handle_t *)&binding->more, on_closed);
  uv_close((uv_handle_t *)&binding->revive, on_closed);
  engine_stop(binding->engine);
  let_go(binding);
}

/* The environment goes down. After a stop, its handles may be closing already. */
static void on_leaving(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  loop_halt(data);
}

void loop_drop(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct binding *binding = data;
  loop_halt(binding);
  binding->is_dropped = true;
  free_when_over(binding);
}

/* ---- batches ---- */

static void tell(struct binding *binding, uint32_t count) {
  napi_env env = binding->env;
  napi_handle_scope scope;
  napi_value on_events, global, result;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value told = NULL;
  (void)napi_create_uint32(env, count, &told);
  if (napi_get_reference_value(env, binding->on_events, &on_events) == napi_ok && napi_get_global(env, &global) == napi_ok &&
      /* Not napi_call_function(): promises are to be settled before the next batch. */
      napi_make_callback(env, NULL, global, on_events, 1, &told, &result) == napi_pending_exception &&
      napi_get_and_clear_last_exception(env, &result) == napi_ok)
    (void)napi_fatal_exception(env, result);
  (void)napi_close_handle_scope(env, scope);
}

static void on_more(uv_idle_t *handle);
static void on_revive(uv_timer_t *handle);

/* Starts and stops the handles for what the descriptor does not show. */
void loop_arrange(struct binding *binding) {
  if (binding->is_stopped) return;
  if (engine_has_more(binding->engine)) (void)uv_idle_start(&binding->more, on_more);
  else (void)uv_idle_stop(&binding->more);
  if (engine_is_paused(binding->engine) && !uv_is_active((uv_handle_t *)&binding->revive))
    (void)uv_timer_start(&binding->revive, on_revive, ENGINE_REVIVE_MS, 0);
}

static void wake(struct binding *binding) {
  bool is_more = true;
  for (int round = 0; round < MAX_ROUNDS && is_more && !binding->is_stopped; round++) {
    uint32_t count = engine_gather(binding->engine, round == 0);
    if (count > 0) tell(binding, count);
    engine_settle(binding->engine);
    is_more = engine_has_more(binding->engine);
  }
  loop_arrange(binding);
}

static void on_poll(uv_poll_t *handle, int status, int events) {
  (void)status;
  (void)events;
  wake(handle->data);
}

static void on_more(uv_idle_t *handle) { wake(handle->data); }

static void on_revive(uv_timer_t *handle) {
  struct binding *binding = handle->data;
  engine_revive(binding->engine);
  loop_arrange(binding);
}

/* ---- start ---- */

static int watch(struct binding *binding, uv_loop_t *loop) {
  uv_handle_t *handles[HANDLES] = {(uv_handle_t *)&binding->poll, (uv_handle_t *)&binding->more, (uv_handle_t *)&binding->revive};
  int error = uv_poll_init(loop, &binding->poll, engine_fd(binding->engine));
  if (error < 0) return error;
  (void)uv_idle_init(loop, &binding->more);
  (void)uv_timer_init(loop, &binding->revive);
  for (int i = 0; i < HANDLES; i++) {
    handles[i]->data = binding;
    uv_unref(handles[i]);
  }
  binding->open_handles = HANDLES;
  return uv_poll_start(&binding->poll, UV_READABLE, on_poll);
}

int loop_start(struct binding *binding, const struct engine_buffers *buffers) {
  uv_loop_t *loop;
  if (napi_get_uv_event_loop(binding->env, &loop) != napi_ok) return -EINVAL;
  binding->engine = engine_create(buffers);
  if (binding->engine == NULL) return -errno;
  int error = watch(binding, loop);
  if (error == 0) return 0;
  engine_stop(binding->engine);
  engine_free(binding->engine);
  return error;
}

bool loop_keep(struct binding *binding, const napi_value values[3]) {
  napi_env env = binding->env;
  return napi_create_reference(env, values[0], 1, &binding->on_events) == napi_ok &&
         napi_create_reference(env, values[1], 1, &binding->events) == napi_ok &&
         napi_create_reference(env, values[2], 1, &binding->arena) == napi_ok &&
         napi_add_async_cleanup_hook(env, on_leaving, binding, &binding->hook) == napi_ok;
}

void loop_hold(struct binding *binding, bool is_held) {
  if (binding->is_stopped) return;
  if (is_held) uv_ref((uv_handle_t *)&binding->poll);
  else uv_unref((uv_handle_t *)&binding->poll);
}
