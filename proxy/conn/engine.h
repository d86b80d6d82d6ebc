/*
 * The set-up engine without Node: accepts, reads the first bytes, connects and writes little, for many connections on the caller's one
 * thread. Knows nothing of JavaScript, HTTP or policy. No call blocks; a number below zero is an errno. Not for threads: one engine, one thread.
 */
#ifndef SALLYPORT_CONN_ENGINE_H
#define SALLYPORT_CONN_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What an event says; the numbers are those of the table in addon.ts, which says what the fields hold. */
enum engine_event {
  ENGINE_ACCEPT = 1,
  ENGINE_DATA,
  ENGINE_FAILED,
  ENGINE_HUP,
  ENGINE_GONE,
  ENGINE_CONNECTED,
  ENGINE_WRITABLE,
  ENGINE_ACCEPT_FAILED,
};

/* Numbers of an event: its kind, the id, two fields, the id of the listener. */
#define ENGINE_EVENT_FIELDS 5
/* The least a caller may bring. */
#define ENGINE_MIN_EVENTS 2
#define ENGINE_MIN_ARENA 512
/* Wait before engine_revive(), when a listener was paused for want of descriptors or memory. */
#define ENGINE_REVIVE_MS 100

struct engine;

/* Where events and bytes are written to; they stay the caller's. `room` counts events, `size` bytes. */
struct engine_buffers {
  int32_t *events;
  uint32_t room;
  uint8_t *arena;
  uint32_t size;
};

/* NULL with errno. */
struct engine *engine_create(const struct engine_buffers *buffers);

/* Becomes readable when there is something to gather. */
int engine_fd(const struct engine *engine);

/*
 * Writes what there is to tell and gives the number of events. They hold until engine_settle(), and so do their ids: one that is closed
 * meanwhile is not used again before. `is_first`: a wake-up begins, so each listener may accept its share anew.
 */
uint32_t engine_gather(struct engine *engine, bool is_first);
void engine_settle(struct engine *engine);

/* True when something waits that engine_fd() does not show. */
bool engine_has_more(const struct engine *engine);

/* True when engine_revive() has to be called in a while. */
bool engine_is_paused(const struct engine *engine);
void engine_revive(struct engine *engine);

/* Closes everything. Calls that follow give -EBADF. */
void engine_stop(struct engine *engine);
/* After engine_stop(). */
void engine_free(struct engine *engine);

/* These give an id, and then own the descriptor; with -errno it is the caller's still. */
int32_t engine_listen(struct engine *engine, int fd, uint32_t head_bytes);
int32_t engine_adopt(struct engine *engine, int fd);
int32_t engine_connect(struct engine *engine, const char *address, uint16_t port);

struct engine_wish {
  uint32_t max_bytes;
  bool is_peek;
  uint32_t beyond; /* with is_peek: no answer before there are more bytes than this, or the end */
};

/* Bytes now at the start of the arena, 0 for FIN, -errno; -EAGAIN when an event will tell. At most a quarter of the arena. */
int32_t engine_read(struct engine *engine, int32_t id, const struct engine_wish *wish);
/* 1 when a wish was taken back, 0 when there was none (any more). */
int32_t engine_unread(struct engine *engine, int32_t id);
/* Bytes taken. */
int32_t engine_write(struct engine *engine, int32_t id, const uint8_t *bytes, size_t count);
int32_t engine_want_write(struct engine *engine, int32_t id);
int32_t engine_finish(struct engine *engine, int32_t id);
int32_t engine_close(struct engine *engine, int32_t id, bool is_reset);
int32_t engine_unlisten(struct engine *engine, int32_t id);
/* The descriptor, which is the caller's from here on. */
int32_t engine_release(struct engine *engine, int32_t id);

/* Of descriptors that no engine has: a listening one, and the port of one. */
int32_t listening_fd(const char *address, uint16_t port, bool is_shared, int backlog);
int32_t port_of(int fd);

#endif
