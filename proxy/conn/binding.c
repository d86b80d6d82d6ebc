/* The set-up engine for Node: arguments and results, Node-API only; safe in several environments at once. Does nothing itself. */
#include "loop.h"

#include <errno.h>
#include <stdlib.h>

static napi_value number(napi_env env, int32_t value) {
  napi_value result = NULL;
  (void)napi_create_int32(env, value, &result);
  return result;
}

/* ---- arguments ---- */

static napi_value throw_wrong(napi_env env) {
  (void)napi_throw_type_error(env, NULL, "bug: the set-up engine was called with the wrong arguments");
  return NULL;
}

static bool read_values(napi_env env, napi_callback_info info, size_t count, napi_value *values) {
  size_t given = count;
  return napi_get_cb_info(env, info, &given, values, NULL, NULL) == napi_ok && given >= count;
}

/* A whole number from 0 to 2^31 - 1. */
static bool read_number(napi_env env, napi_value value, int32_t *number) {
  double given;
  if (napi_get_value_double(env, value, &given) != napi_ok || !(given >= 0 && given <= INT32_MAX)) return false;
  *number = (int32_t)given;
  return true;
}

static bool read_array(napi_env env, napi_value value, napi_typedarray_type wanted, void **data, size_t *length) {
  napi_typedarray_type type;
  return napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == wanted;
}

/* An address as a number is short; anything longer is cut, and is none then. */
static bool read_address(napi_env env, napi_value value, char text[64]) {
  size_t length;
  return napi_get_value_string_utf8(env, value, text, 64, &length) == napi_ok;
}

static bool read_port(napi_env env, napi_value value, uint16_t *port) {
  int32_t given;
  if (!read_number(env, value, &given) || given > 65535) return false;
  *port = (uint16_t)given;
  return true;
}

static struct binding *read_engine(napi_env env, napi_value value) {
  void *data = NULL;
  return napi_get_value_external(env, value, &data) == napi_ok ? data : NULL;
}

/* Reads the engine and `count` numbers behind it, and leaves all in `values`; throws and gives NULL when they are not there. */
static struct binding *arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values, size_t numbers, int32_t *read) {
  struct binding *binding = read_values(env, info, count, values) ? read_engine(env, values[0]) : NULL;
  bool is_right = binding != NULL;
  for (size_t i = 0; is_right && i < numbers; i++) is_right = read_number(env, values[1 + i], &read[i]);
  if (is_right) return binding;
  (void)throw_wrong(env);
  return NULL;
}

/* ---- what JavaScript calls; addon.ts says what each is for ---- */

static napi_value listen_on(napi_env env, napi_callback_info info) {
  napi_value values[4];
  char address[64];
  uint16_t port;
  bool is_shared;
  int32_t backlog;
  if (!read_values(env, info, 4, values) || !read_address(env, values[0], address) || !read_port(env, values[1], &port) ||
      napi_get_value_bool(env, values[2], &is_shared) != napi_ok || !read_number(env, values[3], &backlog))
    return throw_wrong(env);
  return number(env, listening_fd(address, port, is_shared, backlog));
}

static napi_value port(napi_env env, napi_callback_info info) {
  napi_value value;
  int32_t fd;
  if (!read_values(env, info, 1, &value) || !read_number(env, value, &fd)) return throw_wrong(env);
  return number(env, port_of(fd));
}

static bool read_buffers(napi_env env, const napi_value *values, struct engine_buffers *buffers) {
  size_t numbers, size;
  void *events, *arena;
  napi_valuetype type;
  if (napi_typeof(env, values[0], &type) != napi_ok || type != napi_function) return false;
  if (!read_array(env, values[1], napi_int32_array, &events, &numbers)) return false;
  if (!read_array(env, values[2], napi_uint8_array, &arena, &size)) return false;
  if (numbers < ENGINE_MIN_EVENTS * ENGINE_EVENT_FIELDS || size < ENGINE_MIN_ARENA || numbers > INT32_MAX || size > INT32_MAX) return false;
  *buffers = (struct engine_buffers){events, (uint32_t)(numbers / ENGINE_EVENT_FIELDS), arena, (uint32_t)size};
  return true;
}

static napi_value create(napi_env env, napi_callback_info info) {
  napi_value values[3], result = NULL;
  struct engine_buffers buffers;
  if (!read_values(env, info, 3, values) || !read_buffers(env, values, &buffers)) return throw_wrong(env);
  struct binding *binding = calloc(1, sizeof *binding);
  if (binding == NULL) return number(env, -ENOMEM);
  binding->env = env;
  int error = loop_start(binding, &buffers);
  if (error < 0) {
    free(binding);
    return number(env, error);
  }
  if (loop_keep(binding, values) && napi_create_external(env, binding, loop_drop, NULL, &result) == napi_ok) return result;
  loop_drop(env, binding, NULL);
  return number(env, -ENOMEM);
}

static napi_value listen_with(napi_env env, napi_callback_info info) {
  napi_value values[3];
  int32_t given[2]; /* fd, headBytes */
  struct binding *binding = arguments(env, info, 3, values, 2, given);
  return binding == NULL ? NULL : number(env, engine_listen(binding->engine, given[0], (uint32_t)given[1]));
}

static napi_value connect_to(napi_env env, napi_callback_info info) {
  napi_value values[3];
  char address[64];
  uint16_t to;
  struct binding *binding = arguments(env, info, 3, values, 0, NULL);
  if (binding == NULL) return NULL;
  if (!read_address(env, values[1], address) || !read_port(env, values[2], &to)) return throw_wrong(env);
  return number(env, engine_connect(binding->engine, address, to));
}

static napi_value read_bytes(napi_env env, napi_callback_info info) {
  napi_value values[5];
  int32_t given[2], beyond; /* id, maxBytes */
  bool is_peek;
  struct binding *binding = arguments(env, info, 5, values, 2, given);
  if (binding == NULL) return NULL;
  if (napi_get_value_bool(env, values[3], &is_peek) != napi_ok || !read_number(env, values[4], &beyond)) return throw_wrong(env);
  struct engine_wish wish = {.max_bytes = (uint32_t)given[1], .is_peek = is_peek, .beyond = (uint32_t)beyond};
  return number(env, engine_read(binding->engine, given[0], &wish));
}

static napi_value write_bytes(napi_env env, napi_callback_info info) {
  napi_value values[3];
  int32_t id;
  void *bytes;
  size_t count;
  struct binding *binding = arguments(env, info, 3, values, 1, &id);
  if (binding == NULL) return NULL;
  if (!read_array(env, values[2], napi_uint8_array, &bytes, &count)) return throw_wrong(env);
  return number(env, engine_write(binding->engine, id, bytes, count));
}

static napi_value close_one(napi_env env, napi_callback_info info) {
  napi_value values[3];
  int32_t id;
  bool is_reset;
  struct binding *binding = arguments(env, info, 3, values, 1, &id);
  if (binding == NULL) return NULL;
  if (napi_get_value_bool(env, values[2], &is_reset) != napi_ok) return throw_wrong(env);
  return number(env, engine_close(binding->engine, id, is_reset));
}

/* The calls that take a number and give one: one function here for all of them. */
static const struct number_call {
  int32_t (*run)(struct engine *engine, int32_t number);
} calls[] = {{engine_unlisten}, {engine_adopt}, {engine_unread}, {engine_want_write}, {engine_finish}, {engine_release}};

static napi_value call_with_number(napi_env env, napi_callback_info info) {
  napi_value values[2];
  int32_t given;
  void *call = NULL;
  struct binding *binding = arguments(env, info, 2, values, 1, &given);
  if (binding == NULL || napi_get_cb_info(env, info, NULL, NULL, NULL, &call) != napi_ok) return NULL;
  const struct number_call *called = call;
  int32_t result = called->run(binding->engine, given);
  /* Some may have something to tell at once. */
  loop_arrange(binding);
  return number(env, result);
}

static napi_value hold(napi_env env, napi_callback_info info) {
  napi_value values[2];
  bool is_held;
  struct binding *binding = arguments(env, info, 2, values, 0, NULL);
  if (binding == NULL) return NULL;
  if (napi_get_value_bool(env, values[1], &is_held) != napi_ok) return throw_wrong(env);
  loop_hold(binding, is_held);
  return NULL;
}

static napi_value stop(napi_env env, napi_callback_info info) {
  napi_value value;
  struct binding *binding = arguments(env, info, 1, &value, 0, NULL);
  if (binding != NULL) loop_halt(binding);
  return NULL;
}

#define WITH_NUMBER(name, call) {name, NULL, call_with_number, NULL, NULL, NULL, napi_enumerable, (void *)&(call)}
#define WITH(name, call) {name, NULL, call, NULL, NULL, NULL, napi_enumerable, NULL}

NAPI_MODULE_INIT() {
  const napi_property_descriptor properties[] = {
    WITH("bind", listen_on),
    WITH("portOf", port),
    WITH("create", create),
    WITH("listen", listen_with),
    WITH("connect", connect_to),
    WITH("read", read_bytes),
    WITH("write", write_bytes),
    WITH("close", close_one),
    WITH("hold", hold),
    WITH("stop", stop),
    WITH_NUMBER("unlisten", calls[0]),
    WITH_NUMBER("adopt", calls[1]),
    WITH_NUMBER("unread", calls[2]),
    WITH_NUMBER("wantWrite", calls[3]),
    WITH_NUMBER("finish", calls[4]),
    WITH_NUMBER("release", calls[5]),
  };
  (void)napi_define_properties(env, exports, sizeof properties / sizeof *properties, properties);
  return exports;
}
