/* The native relay without Node: two threads that splice the bytes of many tunnels. Knows nothing of JavaScript or policy. */
#ifndef SALLYPORT_RELAY_H
#define SALLYPORT_RELAY_H

#include <stdint.h>

/* Why a tunnel ended; the order is that of the table in native.ts. An error names the side that broke first. */
enum relay_cause {
  RELAY_BOTH_ENDED,
  RELAY_IDLE,
  RELAY_LIMIT_BYTES,
  RELAY_SEVERED,
  RELAY_CLIENT_ERROR,
  RELAY_UPSTREAM_ERROR,
};

/* The two ways through a tunnel, and the side each comes from. */
enum { RELAY_UP, RELAY_DOWN };

/* No byte budget. */
#define RELAY_NO_BUDGET UINT64_MAX

struct relay;
struct tunnel;

struct relay_limits {
  uint64_t sent[2];   /* bytes that crossed before; they count in totals and budgets */
  uint64_t budget[2]; /* bytes, RELAY_NO_BUDGET for none */
  uint32_t idle_ms;   /* longest silence both ways at once */
};

/* How a tunnel ended; valid once it was collected. */
struct relay_end {
  enum relay_cause cause;
  uint64_t bytes[2];
};

/*
 * Starts the threads. `on_ended(context)` runs when the list of ended tunnels is no longer empty: on either of them, on both at once, or on the
 * caller's inside relay_stop(). NULL with errno when the machine has no descriptor, memory or thread left.
 */
struct relay *relay_start(void (*on_ended)(void *), void *context);

/* Severs what is open and ends the threads. What ended can still be collected. */
void relay_stop(struct relay *relay);

/* After relay_stop(), when everything is collected. */
void relay_free(struct relay *relay);

/*
 * Hands two connected non-blocking TCP sockets, client and upstream, to the relay, which closes them; `owner` is given back at the end, and
 * it ends through relay_collect() alone. NULL when there is no memory: then they are still the caller's.
 */
struct tunnel *relay_open(struct relay *relay, const int fds[2], void *owner, const struct relay_limits *limits);

/* Wakes the threads for what was opened since the last time: once for many, because a wake-up costs more than a tunnel. */
void relay_flush(struct relay *relay);

/* Resets both sides soon, unless the tunnel ended before. Not after it was collected. */
void relay_sever(struct relay *relay, struct tunnel *tunnel);

/* Bytes handed over so far, either way; at any time until the tunnel is freed. */
void relay_bytes(struct tunnel *tunnel, uint64_t bytes[2]);

/* The oldest tunnel that ended, both descriptors closed, as its owner; its end goes to `end`. Frees it. NULL when there is none. */
void *relay_collect(struct relay *relay, struct relay_end *end);

#endif
