// The bytes of the two hellos, the pattern of bulk data, clocks and sockets. See wire.h.
#define _GNU_SOURCE
#include "wire.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

struct cursor {
  uint8_t *at;
};

static void put(struct cursor *c, const void *bytes, size_t length) {
  memcpy(c->at, bytes, length);
  c->at += length;
}

static void put8(struct cursor *c, unsigned value) {
  *c->at++ = (uint8_t)value;
}

static void put16(struct cursor *c, size_t value) {
  put8(c, (unsigned)(value >> 8 & 0xff));
  put8(c, (unsigned)(value & 0xff));
}

static void fill(struct cursor *c, uint8_t value, size_t length) {
  memset(c->at, value, length);
  c->at += length;
}

static void set16(uint8_t *at, size_t value) {
  at[0] = (uint8_t)(value >> 8 & 0xff);
  at[1] = (uint8_t)(value & 0xff);
}

static const uint8_t groups[] = {0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17};
static const uint8_t signatures[] = {0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1};
static const uint8_t versions[] = {0, 43, 0, 5, 4, 3, 4, 3, 3};
static const uint8_t share[] = {0, 51, 0, 38, 0, 36, 0, 0x1d, 0, 32};
static const uint8_t suites[] = {0, 6, 0x13, 1, 0x13, 2, 0x13, 3};

size_t client_hello(uint8_t out[hello_max], const char *name) {
  const size_t wanted = 517, name_length = strlen(name);
  if (name_length > 200) exit(64);
  struct cursor c = {out};
  put(&c, "\x16\x03\x01\0\0\x01\0\0\0\x03\x03", 11);
  fill(&c, 0x5a, 32);
  put8(&c, 32);
  fill(&c, 0x11, 32);
  put(&c, suites, sizeof suites);
  put(&c, "\x01\0", 2);
  uint8_t *const extensions = c.at;
  put16(&c, 0);
  put16(&c, 0);
  put16(&c, name_length + 5);
  put16(&c, name_length + 3);
  put8(&c, 0);
  put16(&c, name_length);
  put(&c, name, name_length);
  put(&c, groups, sizeof groups);
  put(&c, signatures, sizeof signatures);
  put(&c, versions, sizeof versions);
  put(&c, share, sizeof share);
  fill(&c, 0x77, 32);
  const size_t padding = wanted - (size_t)(c.at - out) - 4;
  put16(&c, 21);
  put16(&c, padding);
  fill(&c, 0, padding);
  set16(extensions, (size_t)(c.at - extensions) - 2);
  set16(out + 3, wanted - 5);
  set16(out + 7, wanted - 9);
  return wanted;
}

size_t server_hello(uint8_t out[hello_max]) {
  struct cursor c = {out};
  put(&c, "\x16\x03\x03\0\0\x02\0\0\0\x03\x03", 11);
  fill(&c, 0xa5, 32);
  put8(&c, 32);
  fill(&c, 0x11, 32);
  put(&c, "\x13\x01\0", 3);
  put16(&c, 6 + 40);
  put(&c, "\0\x2b\0\x02\x03\x04", 6);
  put(&c, "\0\x33\0\x24\0\x1d\0\x20", 8);
  fill(&c, 0x66, 32);
  const size_t length = (size_t)(c.at - out);
  set16(out + 3, length - 5);
  set16(out + 7, length - 9);
  return length;
}

size_t record_length(const uint8_t *bytes, size_t held) {
  return held < 5 ? 0 : 5 + ((size_t)bytes[3] << 8) + bytes[4];
}

const uint8_t *pattern_at(uint64_t offset) {
  static uint8_t pattern[pattern_period + window_bytes];
  static bool made;
  if (!made) {
    uint32_t state = 1;
    for (size_t i = 0; i < pattern_period; i++) {
      state = state * 1664525 + 1013904223;
      pattern[i] = (uint8_t)(state >> 24);
    }
    for (size_t i = pattern_period; i < sizeof pattern; i++) pattern[i] = pattern[i - pattern_period];
    made = true;
  }
  return pattern + offset % pattern_period;
}

ssize_t send_pattern(int fd, uint64_t offset) {
  return send(fd, pattern_at(offset), window_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t receive_pattern(int fd, uint64_t offset, uint64_t *reads, uint64_t *wrong) {
  static _Thread_local uint8_t bytes[window_bytes];
  const bool looked_at = (*reads)++ % 16 == 0;
  const ssize_t got = recv(fd, looked_at ? bytes : NULL, window_bytes, MSG_DONTWAIT | (looked_at ? 0 : MSG_TRUNC));
  if (looked_at && got > 0 && memcmp(bytes, pattern_at(offset), (size_t)got) != 0) ++*wrong;
  return got;
}

uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct sockaddr_in read_address(const char *text) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  char host[64];
  unsigned port;
  if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || port > 65535 || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
    fprintf(stderr, "`%s` is not an IPv4 address and a port\nhelp: such as 127.0.0.1:443\n", text);
    exit(64);
  }
  address.sin_port = htons((uint16_t)port);
  return address;
}

void set_nodelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(70);
}
