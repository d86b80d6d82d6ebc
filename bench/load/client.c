// Load generator: `client WORKLOAD to=ADDRESS:PORT name=HOST [connect=1] [sources=N] [slots=N] [ms=N] [stages=N,N]`. Prints one JSON line
// (hold: one a stage before it). Does not judge: errors are counted, and the reader of the line decides what they mean.
#define _GNU_SOURCE
#include "client.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

struct settings settings = {.slots = 1, .ms = 1000, .name = ""};
struct seen seen;
struct tunnel *tunnels;
unsigned tunnel_count;
int epoll;
const struct workload *workload;
static const uint64_t stalled_ns = 10000000000u;

static uint64_t *samples;
static size_t sample_count, sample_room;

void add_sample(uint64_t ns) {
  if (sample_count == sample_room) {
    sample_room = sample_room == 0 ? 65536 : sample_room * 2;
    samples = realloc(samples, sample_room * sizeof *samples);
    if (samples == NULL) die("realloc");
  }
  samples[sample_count++] = ns;
}

static int by_size(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static double sample_us(size_t per_thousand) {
  if (sample_count == 0) return 0;
  const size_t at = sample_count * per_thousand / 1000;
  return (double)samples[at < sample_count ? at : sample_count - 1] / 1000;
}

void print_report(const char *name) {
  if (sample_count > 0) qsort(samples, sample_count, sizeof *samples, by_size);
  const double seconds = (double)(seen.ended - seen.began) / 1e9;
  for (char *c = seen.first_error; *c != 0; c++)
    if (*c == '"' || *c == '\\' || *c < ' ') *c = '\'';
  printf("{\"workload\":\"%s\",\"done\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"bytes\":%" PRIu64
         ",\"seconds\":%.6f,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f,\"firstError\":\"%s\"}\n",
         name, seen.done, seen.errors, seen.lost, seen.wrong, seen.bytes, seconds, sample_us(500), sample_us(990), sample_us(999),
         sample_us(1000), seen.first_error);
}

static void read_stages(const char *text) {
  char *end = NULL;
  for (unsigned i = 0; i < 3 && *text != 0; i++) {
    settings.stages[i] = (unsigned)strtoul(text, &end, 10);
    text = *end == ',' ? end + 1 : end;
  }
}

static bool read_setting(const char *text) {
  const char *const value = strchr(text, '=');
  if (value == NULL) return false;
  const size_t length = (size_t)(value - text);
  const unsigned number = (unsigned)strtoul(value + 1, NULL, 10);
  if (strncmp(text, "to", length) == 0) settings.to = read_address(value + 1);
  else if (strncmp(text, "name", length) == 0) settings.name = value + 1;
  else if (strncmp(text, "connect", length) == 0) settings.connects = number == 1;
  else if (strncmp(text, "sources", length) == 0) settings.sources = number;
  else if (strncmp(text, "slots", length) == 0) settings.slots = number;
  else if (strncmp(text, "ms", length) == 0) settings.ms = number;
  else if (strncmp(text, "stages", length) == 0) read_stages(value + 1);
  else return false;
  return true;
}

static void make_places(void) {
  tunnel_count = settings.slots;
  for (unsigned i = 0; settings.stages[i] != 0; i++) tunnel_count = settings.stages[i];
  tunnels = calloc(tunnel_count, sizeof *tunnels);
  if (tunnels == NULL) die("calloc");
  for (unsigned i = 0; i < tunnel_count; i++) tunnels[i].fd = -1;
}

// A tunnel that owes us something and stays silent is an error, not a wait without end.
static void give_up_on_silent(void) {
  for (unsigned i = 0; i < tunnel_count; i++) {
    errno = ETIMEDOUT;
    if (tunnels[i].fd >= 0) fail(&tunnels[i], "nothing moved");
  }
}

static void run(void) {
  uint64_t moved = now_ns();
  while (workload->turn()) {
    struct epoll_event events[256];
    const int count = epoll_wait(epoll, events, 256, 20);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < count; i++) advance(events[i].data.ptr);
    if (count > 0 || seen.rests) moved = now_ns();
    if (now_ns() - moved > stalled_ns) {
      give_up_on_silent();
      break;
    }
  }
  if (seen.ended == 0) seen.ended = now_ns();
}

int main(int argc, char **argv) {
  const struct workload *found = workloads;
  while (argc > 1 && found->name != NULL && strcmp(found->name, argv[1]) != 0) found++;
  bool understood = argc > 1 && found->name != NULL;
  for (int i = 2; i < argc && understood; i++) understood = read_setting(argv[i]);
  if (!understood || settings.to.sin_port == 0 || settings.slots == 0) {
    fputs("usage: client tunnels|trips|down|up|hold to=ADDRESS:PORT name=HOST [connect=1] [sources=N] [slots=N] [ms=N] [stages=N,N]\n",
          stderr);
    return 64;
  }
  workload = found;
  epoll = epoll_create1(EPOLL_CLOEXEC);
  make_places();
  run();
  print_report(workload->name);
  return 0;
}
