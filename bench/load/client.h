// The load generator's own parts: one tunnel, one workload, what was measured. Bytes and clocks are in wire.h.
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H
#include "wire.h"

enum phase { connecting, reading_status, reading_answer, at_work };

struct tunnel {
  int fd; // -1 while there is none
  enum phase phase;
  bool is_idle;      // at_work, and nothing is owed to it
  size_t held;       // of what is awaited
  uint64_t since;    // when what is timed began, ns
  uint64_t offset, reads;
  uint8_t bytes[hello_max];
};

struct settings {
  struct sockaddr_in to;
  const char *name;    // of the host: in the CONNECT line and in the hello
  bool connects;       // asks with CONNECT; else the hello is the first thing said
  unsigned sources;    // client addresses from 127.0.0.2 on; 0 leaves it to the kernel
  unsigned slots;      // tunnels at once
  uint64_t ms;         // how long
  unsigned stages[4];  // tunnels held open, ascending; 0 ends the list
};

struct workload {
  const char *name;
  // The hellos are through. False when the tunnel failed: `fail` has said why.
  bool (*ready)(struct tunnel *);
  // The socket of a tunnel at work can be read, written or has ended.
  bool (*event)(struct tunnel *);
  // Once every turn of the loop. False when the workload is over.
  bool (*turn)(void);
};

extern const struct workload workloads[];
extern struct settings settings;
extern struct tunnel *tunnels;
extern unsigned tunnel_count; // places in `tunnels`
extern struct seen {
  uint64_t done;    // tunnels that ended as they should, or are held
  uint64_t errors;
  uint64_t bytes;   // of bulk data
  uint64_t wrong;   // reads that differ from what was sent
  uint64_t lost;    // idle tunnels that did not stay open
  unsigned open;    // tunnels with a socket
  bool rests;       // nothing is due until stdin says so
  uint64_t began, ended; // of the timed part, ns
  char first_error[160];
} seen;

void start_tunnel(struct tunnel *t);
void end_tunnel(struct tunnel *t);
// Counts an error with its first text, ends the tunnel, returns false.
bool fail(struct tunnel *t, const char *what);
void watch(struct tunnel *t, uint32_t events);
bool say(struct tunnel *t, const void *bytes, size_t length);
void advance(struct tunnel *t);

void add_sample(uint64_t ns);
void print_report(const char *name);

#endif
