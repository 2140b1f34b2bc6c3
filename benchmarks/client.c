/* A client of one thread: keep-alive connections over epoll, prepared requests in turn, answers by Content-Length.

   client PORT PATH BODIES CONNECTIONS SECONDS RATE

   BODIES has one JSON body per line. With RATE 0 each connection sends its next request when the last was answered.
   With a RATE (per second) request n is due at start + n / RATE whatever became of those before; it is sent when a
   connection is free, and its latency counts from when it was due, so that a stall is seen by all whom it held up
   (no coordinated omission). Prints one line of JSON. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LARGEST_ANSWER (1 << 20)

struct request { char *bytes; size_t size; };
struct connection { int socket; int busy; double from; size_t filled; char *answer; };

static struct request *requests;
static size_t request_count, next_request;
static double *latencies;
static size_t latency_count, latency_space;
static size_t failed;

static void die(const char *what) { perror(what); exit(2); }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_bodies(const char *file, const char *port, const char *path) {
  FILE *in = fopen(file, "r");
  if (!in) die(file);
  char *line = NULL;
  size_t space = 0;
  ssize_t size;
  while ((size = getline(&line, &space, in)) > 0) {
    while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r')) line[--size] = 0;
    if (!size) continue;
    requests = realloc(requests, (request_count + 1) * sizeof *requests);
    if (!requests) die("realloc");
    struct request *one = &requests[request_count++];
    int written = asprintf(&one->bytes,
                           "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zd\r\n\r\n%s", path, port, size, line);
    if (written < 0) die("asprintf");
    one->size = (size_t)written;
  }
  free(line);
  fclose(in);
  if (!request_count) { fprintf(stderr, "%s has no body\n", file); exit(2); }
}

static void send_next(struct connection *c, double from) {
  struct request *one = &requests[next_request++ % request_count];
  c->busy = 1;
  c->from = from;
  c->filled = 0;
  /* Requests are far smaller than a socket's buffer. */
  if (send(c->socket, one->bytes, one->size, MSG_NOSIGNAL) != (ssize_t)one->size) die("send");
}

/* 1 when a whole answer is there. */
static int take(struct connection *c) {
  for (;;) {
    ssize_t got = recv(c->socket, c->answer + c->filled, LARGEST_ANSWER - 1 - c->filled, 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (got < 0) die("recv");
    if (got == 0) { fprintf(stderr, "the service hung up\n"); exit(2); }
    c->filled += (size_t)got;
  }
  c->answer[c->filled] = 0;
  char *end = strstr(c->answer, "\r\n\r\n");
  if (!end) return 0;
  char *length = strcasestr(c->answer, "content-length:");
  if (!length || length > end) { fprintf(stderr, "an answer without content-length\n"); exit(2); }
  return c->filled >= (size_t)(end - c->answer) + 4 + strtoul(length + 15, NULL, 10);
}

static void note(struct connection *c) {
  if (latency_count == latency_space) {
    latency_space = latency_space ? 2 * latency_space : 65536;
    latencies = realloc(latencies, latency_space * sizeof *latencies);
    if (!latencies) die("realloc");
  }
  latencies[latency_count++] = now() - c->from;
  if (strncmp(c->answer + 9, "20", 2)) failed++;
  c->busy = 0;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static int connect_to(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
  if (s < 0 || connect(s, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(s, F_SETFL, O_NONBLOCK);
  return s;
}

int main(int count, char **words) {
  if (count != 7) { fprintf(stderr, "usage: client PORT PATH BODIES CONNECTIONS SECONDS RATE\n"); return 2; }
  int connections = atoi(words[4]);
  double seconds = atof(words[5]), rate = atof(words[6]);
  if (connections < 1 || seconds <= 0) { fprintf(stderr, "CONNECTIONS and SECONDS must be positive\n"); return 2; }
  read_bodies(words[3], words[1], words[2]);

  int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  if (poll < 0 || timer < 0) die("epoll");
  struct connection *all = calloc((size_t)connections, sizeof *all);
  if (!all) die("calloc");
  for (int i = 0; i < connections; i++) {
    all[i].socket = connect_to(atoi(words[1]));
    all[i].answer = malloc(LARGEST_ANSWER);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    if (!all[i].answer || epoll_ctl(poll, EPOLL_CTL_ADD, all[i].socket, &event)) die("epoll_ctl");
  }
  struct epoll_event tick = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, timer, &tick)) die("epoll_ctl");

  double start = now(), end = start + seconds, due = start;
  /* With a rate, all that are planned are sent, however late. */
  size_t sent = 0, busy = 0, planned = (size_t)(seconds * rate);
  if (rate <= 0)
    for (int i = 0; i < connections; i++, busy++) send_next(&all[i], start);
  double done = start;
  while (busy || (rate > 0 ? sent < planned : now() < end)) {
    if (now() > end + 30.0) { fprintf(stderr, "answers did not come within 30 s\n"); return 2; }
    if (rate > 0) {
      double at = now();
      int i = 0;
      while (due <= at && sent < planned) {
        while (i < connections && all[i].busy) i++;
        if (i == connections) break;
        send_next(&all[i], due);
        busy++;
        due = start + (double)++sent / rate;
      }
      /* While all are busy an answer wakes us. */
      double next = due <= at ? at + 1.0 : due;
      struct itimerspec alarm = {.it_value = {(time_t)next, (long)(1e9 * (next - (double)(time_t)next))}};
      timerfd_settime(timer, TFD_TIMER_ABSTIME, &alarm, NULL);
    }
    struct epoll_event events[64];
    int ready = epoll_wait(poll, events, 64, 1000);
    if (ready < 0 && errno != EINTR) die("epoll_wait");
    for (int e = 0; e < ready; e++) {
      struct connection *c = events[e].data.ptr;
      if (!c) {
        uint64_t expired;
        if (read(timer, &expired, sizeof expired) < 0 && errno != EAGAIN) die("timer");
        continue;
      }
      if (!take(c) || !c->busy) continue;
      note(c);
      busy--;
      done = now();
      if (rate <= 0 && done < end) { send_next(c, done); busy++; }
    }
  }
  qsort(latencies, latency_count, sizeof *latencies, by_size);
  if (!latency_count) { fprintf(stderr, "no request was answered\n"); return 2; }
  printf("{\"requests\": %zu, \"failed\": %zu, \"seconds\": %.6f, \"requests_per_second\": %.3f, \"p50_ms\": %.4f, "
         "\"p99_ms\": %.4f, \"max_ms\": %.4f}\n",
         latency_count, failed, done - start, (double)latency_count / (done - start),
         1e3 * latencies[latency_count / 2], 1e3 * latencies[(size_t)((double)latency_count * 0.99)],
         1e3 * latencies[latency_count - 1]);
  return 0;
}
