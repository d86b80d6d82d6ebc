/* What the parts of the set-up engine share. Not for others. */
#ifndef SALLYPORT_CONN_INSIDE_H
#define SALLYPORT_CONN_INSIDE_H

#include "engine.h"

#include <sys/socket.h>

struct link {
  struct link *prev, *next;
};

enum kind { IS_FREE, IS_LISTENER, IS_CONNECTING, IS_OPEN };

/*
 * A connection or a listener. `readable` and `writable` say what the kernel told last and no call has disproved: the set is edge-triggered,
 * so what is forgotten here is never told again.
 */
struct conn {
  struct link ready;
  int32_t id;
  int fd;
  enum kind kind;
  bool is_ready; /* in the list of those with something to tell, or perhaps */
  bool readable, writable;
  bool hung, broken;        /* the peer's FIN was seen; the connection is over both ways */
  bool fin_told, gone_told; /* each is told once, in whatever way */
  bool has_finished;        /* our own FIN was sent */
  bool wants_read, wants_write;
  struct engine_wish wish;
  int error; /* what broke it: the kernel tells that to one call only */
  /* of a listener */
  uint32_t head_bytes, share;
  uint64_t wake; /* the wake-up that `share` and `has_failed` belong to */
  bool has_failed, is_paused;
};

struct engine {
  int epoll;
  int spare; /* a descriptor kept for turning clients away when there is no other */
  bool is_stopped, is_telling, is_full;
  uint32_t paused;
  uint64_t wake;
  struct engine_buffers buffers;
  uint32_t count;        /* events of this batch */
  uint32_t direct, used; /* bytes of the arena: kept for engine_read(), and taken so far */
  struct link ready;
  struct conn **conns; /* by id */
  struct conn **free, **resting; /* as stacks; what rests is free after this batch */
  uint32_t conn_count, conn_room, free_count, resting_count;
};

/* engine.c. Whoever tells has asked for the room. */
bool has_room(const struct engine *engine, uint32_t events, uint32_t bytes);
void tell(struct engine *engine, enum engine_event kind, int32_t id, int32_t a, int32_t b);
void make_ready(struct engine *engine, struct conn *conn);

/* table.c. conn_add() gives NULL with errno, and leaves the descriptor alone then. */
struct conn *conn_add(struct engine *engine, int fd, enum kind kind, uint32_t events);
struct conn *conn_find(const struct engine *engine, int32_t id);
/* Forgets it and gives its descriptor. */
int conn_remove(struct engine *engine, struct conn *conn);
void conns_free(struct engine *engine);

/* accept.c. False when there was not room enough for what it has to tell. */
bool accept_share(struct engine *engine, struct conn *listener);

/* stream.c */
int error_of(struct conn *conn);
int32_t receive(struct conn *conn, uint8_t *to, uint32_t most, const struct engine_wish *wish);
bool serve_stream(struct engine *engine, struct conn *conn);

/* sockets.c */
#define ADDRESS_BYTES 128
void reset_and_close(int fd);
uint32_t address_text(char *to, const struct sockaddr_storage *peer, const struct sockaddr_storage *local);
bool parse_address(const char *text, uint16_t port, struct sockaddr_storage *address, socklen_t *length);
void send_at_once(int fd);

#endif
