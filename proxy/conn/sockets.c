/* Sockets that belong to no engine yet, and addresses as text. Watches nothing. */
#define _GNU_SOURCE
#include "inside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void reset_and_close(int fd) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(fd);
}

/* Small writes are whole answers: none is to wait for the one before it. */
void send_at_once(int fd) {
  int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* False when it is not the number of an address. */
bool parse_address(const char *text, uint16_t port, struct sockaddr_storage *address, socklen_t *length) {
  memset(address, 0, sizeof *address);
  struct sockaddr_in *v4 = (struct sockaddr_in *)address;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    *length = sizeof *v4;
    return true;
  }
  if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1) return false;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  *length = sizeof *v6;
  return true;
}

static uint16_t port_in(const struct sockaddr_storage *address) {
  /* Both kinds have it in the same place, but that is for the compiler to know. */
  if (address->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)address)->sin_port);
  return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
}

static const void *bytes_in(const struct sockaddr_storage *address) {
  if (address->ss_family == AF_INET) return &((const struct sockaddr_in *)address)->sin_addr;
  return &((const struct sockaddr_in6 *)address)->sin6_addr;
}

/* "ip port ip port", in ADDRESS_BYTES; nothing when they are no internet addresses. */
uint32_t address_text(char *to, const struct sockaddr_storage *peer, const struct sockaddr_storage *local) {
  char from[INET6_ADDRSTRLEN], at[INET6_ADDRSTRLEN];
  bool is_known = inet_ntop(peer->ss_family, bytes_in(peer), from, sizeof from) != NULL &&
                  inet_ntop(local->ss_family, bytes_in(local), at, sizeof at) != NULL;
  if (!is_known) return 0;
  return (uint32_t)snprintf(to, ADDRESS_BYTES, "%s %u %s %u", from, port_in(peer), at, port_in(local));
}

static bool set_up_listener(int fd, int family, bool is_shared) {
  int on = 1;
  bool is_right = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
  if (is_shared) is_right = is_right && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
  if (family == AF_INET6) is_right = is_right && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
  return is_right;
}

int32_t listening_fd(const char *address, uint16_t port, bool is_shared, int backlog) {
  struct sockaddr_storage to;
  socklen_t length;
  if (!parse_address(address, port, &to, &length)) return -EINVAL;
  int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (set_up_listener(fd, to.ss_family, is_shared) && bind(fd, (struct sockaddr *)&to, length) == 0 && listen(fd, backlog) == 0)
    return fd;
  int error = errno;
  close(fd);
  return -error;
}

int32_t port_of(int fd) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  if (getsockname(fd, (struct sockaddr *)&address, &length) < 0) return -errno;
  if (address.ss_family != AF_INET && address.ss_family != AF_INET6) return -EAFNOSUPPORT;
  return port_in(&address);
}
