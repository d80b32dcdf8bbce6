/* Times small requests over pipes with as little of its own as possible, so that ratios are the servers' and not the
   client's.

     roundtrip raw REQUEST_BYTES ANSWER_BYTES COUNT       against a copy of itself that reads and writes so many bytes
     roundtrip lsp METHOD INITIALIZE COUNT COMMAND...     against a language server: INITIALIZE is the request's params
     roundtrip echo REQUEST_BYTES ANSWER_BYTES            the other side of `raw`

   Prints one line of JSON: microseconds from start to the initialize result, p50 / p90 / p99 of the round trips in
   nanoseconds, the sizes of one request and its answer, and the server's resident memory in KiB after half a second of
   idling. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 1 << 20, FIRST_ID = 1000000 };
static char answer[CAPACITY];

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int transfer(int fd, char *buffer, long bytes, int writing) {
  for (long done = 0; done < bytes;) {
    const long count = writing ? write(fd, buffer + done, bytes - done) : read(fd, buffer + done, bytes - done);
    if (count <= 0) return 0;
    done += count;
  }
  return 1;
}

static int echo(long request, long reply) {
  if (request > CAPACITY || reply > CAPACITY) return 64;
  while (transfer(0, answer, request, 0) && transfer(1, answer, reply, 1)) {}
  return 0;
}

/* One framed message into `answer`, NUL-terminated; its whole size on the wire. Reads ahead as a client would. */
static long receive(int fd) {
  static char held[CAPACITY];
  static long have = 0;
  for (;;) {
    held[have] = 0;
    char *body = strstr(held, "\r\n\r\n");
    const char *field = body ? strcasestr(held, "content-length:") : NULL;
    if (field && field < body) {
      const long length = atol(field + 15), total = (body + 4 - held) + length;
      if (have >= total) {
        memcpy(answer, body + 4, length);
        answer[length] = 0;
        memmove(held, held + total, have - total);
        have -= total;
        return total;
      }
    }
    const long count = read(fd, held + have, CAPACITY - 1 - have);
    if (count <= 0) fail("the server closed its output");
    have += count;
  }
}

static long compose(char *out, long id, const char *method, const char *params) {
  static char body[CAPACITY / 2];
  const int length = snprintf(body, sizeof body, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"%s\"%s%s}", id, method,
                              params ? ",\"params\":" : "", params ? params : "");
  return sprintf(out, "Content-Length: %d\r\n\r\n%s", length, body);
}

/* Sends a request and waits for the message that bears its id; the server's own messages are skipped. */
static long ask(int to, int from, char *request, long size, long id) {
  char mark[32];
  sprintf(mark, "\"id\":%ld", id);
  if (!transfer(to, request, size, 1)) fail("the server closed its input");
  for (;;) {
    const long total = receive(from);
    if (strstr(answer, mark)) return total;
  }
}

static pid_t spawn(char **command, int *to, int *from) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) fail("pipe2");
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (!child) {
    const int silent = open("/dev/null", O_WRONLY);
    dup2(in[0], 0), dup2(out[1], 1), dup2(silent, 2);
    execvp(command[0], command);
    _exit(127);
  }
  close(in[0]), close(out[1]);
  *to = in[1], *from = out[0];
  return child;
}

static long resident(pid_t child) {
  char path[64], line[256];
  long kib = 0;
  snprintf(path, sizeof path, "/proc/%d/status", child);
  FILE *file = fopen(path, "r");
  while (file && fgets(line, sizeof line, file)) sscanf(line, "VmRSS: %ld", &kib);
  if (file) fclose(file);
  return kib;
}

static int ascending(const void *a, const void *b) {
  const long long x = *(const long long *)a, y = *(const long long *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  static char request[CAPACITY];
  signal(SIGPIPE, SIG_IGN);
  if (argc == 4 && !strcmp(argv[1], "echo")) return echo(atol(argv[2]), atol(argv[3]));
  const int raw = argc == 5 && !strcmp(argv[1], "raw"), lsp = argc > 5 && !strcmp(argv[1], "lsp");
  if (!raw && !lsp) return 64;
  const long count = atol(argv[4]);
  long long *times = calloc(count, sizeof *times), initialized = 0;
  char *mirror[] = {"/proc/self/exe", "echo", argv[2], argv[3], NULL};
  int to, from;
  long asked = raw ? atol(argv[2]) : 0, answered = raw ? atol(argv[3]) : 0;
  if (count < 1 || asked > CAPACITY || answered > CAPACITY) return 64;
  const long long began = now();
  const pid_t child = spawn(raw ? mirror : argv + 5, &to, &from);
  if (lsp) {
    ask(to, from, request, compose(request, 1, "initialize", argv[3]), 1);
    initialized = now() - began;
    const char *note = "{\"jsonrpc\":\"2.0\",\"method\":\"initialized\",\"params\":{}}";
    transfer(to, request, sprintf(request, "Content-Length: %zu\r\n\r\n%s", strlen(note), note), 1);
  }
  for (long i = -count / 10; i < count; i++) {
    const long id = FIRST_ID + count + i;
    const long size = raw ? asked : compose(request, id, argv[2], NULL);
    const long long start = now();
    if (raw) {
      if (!transfer(to, request, size, 1) || !transfer(from, answer, answered, 0)) fail("the mirror ended");
    } else {
      answered = ask(to, from, request, size, id);
    }
    if (i >= 0) times[i] = now() - start;
    asked = size;
  }
  usleep(500000);
  const long kib = resident(child);
  qsort(times, count, sizeof *times, ascending);
  printf("{\"initialize_us\": %lld, \"p50_ns\": %lld, \"p90_ns\": %lld, \"p99_ns\": %lld, \"request\": %ld, "
         "\"answer\": %ld, \"rss_kib\": %ld}\n",
         initialized / 1000, times[count / 2], times[count * 9 / 10], times[count * 99 / 100], asked, answered, kib);
  close(to);
  usleep(100000);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  return 0;
}
