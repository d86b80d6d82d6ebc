// What client and upstream share: the bytes of the two hellos, the pattern that bulk data follows, clocks and sockets. No event loop.
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
  message_bytes = 64,       // of one echo
  hello_max = 1024,         // longest hello either side sends
  pattern_period = 65521,   // prime: a lost or doubled block of any usual size shows
  window_bytes = 256 * 1024 // of one send or recv of bulk data
};

// The first byte that a client sends behind the hellos says what the tunnel is for.
enum { want_echo = 'E', want_source = 'D', want_sink = 'U', want_stop = 'S' };

// A TLS 1.3 ClientHello for `name` as browsers send it, 517 bytes. Returns its length.
size_t client_hello(uint8_t out[hello_max], const char *name);
// A TLS 1.3 ServerHello that asks for no second hello. Returns its length.
size_t server_hello(uint8_t out[hello_max]);
// Length of the TLS record that starts `bytes`, header included; 0 while fewer than five bytes are there.
size_t record_length(const uint8_t *bytes, size_t held);

// Byte number `offset` of every bulk stream and the `window_bytes` after it.
const uint8_t *pattern_at(uint64_t offset);
// Sends or receives as much as fits at once: bytes, 0 when the peer has ended (receive only), -1 with errno.
ssize_t send_pattern(int fd, uint64_t offset);
// One read in sixteen is compared with the pattern, the others are counted and thrown away unseen; `*wrong` grows by reads that differ.
ssize_t receive_pattern(int fd, uint64_t offset, uint64_t *reads, uint64_t *wrong);

uint64_t now_ns(void);
struct sockaddr_in read_address(const char *text); // "127.0.0.1:443"; exits with 64 on anything else
void set_nodelay(int fd);
_Noreturn void die(const char *what); // prints errno, exits with 70

#endif
