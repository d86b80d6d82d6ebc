/*
 * Memory that the processes of one proxy share: who holds how many places, how fast clients came, which tunnels are open.
 * Lock-free, so that a process that stops or dies at any instruction holds nobody up. Knows no sockets and no policy.
 */
#ifndef SALLYPORT_BOARD_H
#define SALLYPORT_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Tunnels; clients that have not asked yet; clients that were told no and may still read it. */
enum { BOARD_KINDS = 3 };
enum { BOARD_RECORD_BYTES = 976 };

/* The phases of a record: what the audit has of its tunnel. */
enum board_phase { BOARD_FREE, BOARD_ENTERED, BOARD_RECORDED, BOARD_CLOSING };

/* One open tunnel. Its own worker alone writes it, and the parent once that worker is dead. */
struct board_slot {
  _Atomic uint32_t sequence; /* odd while the record is being written */
  _Atomic uint32_t phase;
  _Atomic int64_t up, down;
  uint32_t length;
  char record[BOARD_RECORD_BYTES];
};

struct board_shape {
  uint32_t workers, principals, slots;
};

struct board {
  struct board_shape shape;
  unsigned char *memory;
  size_t bytes;
};

/* Bytes of a board; 0 when the shape is out of range. */
size_t board_size(struct board_shape shape);

/* Takes a place if neither limit is reached; a place that is free is never refused to everybody. */
bool board_take(struct board *board, uint32_t worker, uint32_t kind, uint32_t principal, int64_t max_all, int64_t max_each);
void board_give(struct board *board, uint32_t worker, uint32_t kind, uint32_t principal);
int64_t board_open(struct board *board, uint32_t kind);
/* Takes back all places of a worker that is dead, and clears its records. */
void board_forget(struct board *board, uint32_t worker);

/* One more client of `principal` at `now`: every `interval` ns refills one, `burst` of them at once. False: too fast. */
bool board_pass(struct board *board, uint32_t principal, int64_t now, int64_t interval, int64_t burst);

/* The worker's event loop went round. */
void board_beat(struct board *board, uint32_t worker);
uint64_t board_beats(struct board *board, uint32_t worker);

struct board_slot *board_slot(struct board *board, uint32_t worker, uint32_t slot);
/* How many slots of a worker were ever in use: no other page of its records is in memory. */
uint32_t board_used(struct board *board, uint32_t worker);
void board_write(struct board *board, uint32_t worker, uint32_t slot, const char *record, uint32_t length);
/* Copies a whole record; its length, or -1 when the slot is free or its record was never finished. */
int32_t board_read(struct board_slot *slot, char record[BOARD_RECORD_BYTES]);

#endif
