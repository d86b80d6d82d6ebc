/* An engine in the event loop of one environment. Not for others than the binding. */
#ifndef SALLYPORT_CONN_LOOP_H
#define SALLYPORT_CONN_LOOP_H

/* What uv.h needs of the C library. */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include "engine.h"

#include <node_api.h>
#include <uv.h>

struct binding {
  napi_env env;
  napi_async_cleanup_hook_handle hook;
  napi_ref on_events, events, arena;
  struct engine *engine;
  uv_poll_t poll;    /* the engine's descriptor */
  uv_idle_t more;    /* runs while something waits that the descriptor does not show */
  uv_timer_t revive; /* runs while a listener is paused */
  uint32_t open_handles;
  bool is_stopped, is_dropped;
};

/* 0, or -errno. Once it is 0, only loop_halt() ends the handles. */
int loop_start(struct binding *binding, const struct engine_buffers *buffers);

/* References to the function and the buffers, and a word when the environment goes down. False when there is no memory. */
bool loop_keep(struct binding *binding, const napi_value values[3]);

/* After what may have given the engine something to tell outside of a batch. */
void loop_arrange(struct binding *binding);

/* The poll handle keeps the process alive, or not. */
void loop_hold(struct binding *binding, bool is_held);

/* Closes what the engine has open, and lets go of the buffers. */
void loop_halt(struct binding *binding);

/* JavaScript has dropped the engine. */
void loop_drop(napi_env env, void *binding, void *hint);

#endif
