// espalier-hdf5: reads and makes HDF5 files for the daemon, in a process of its own that has nothing to lose.
//
//   espalier-hdf5 index OFFSET COUNT LIMIT   reads the HDF5 file that is COUNT bytes from OFFSET of the input
//   espalier-hdf5 create LIMIT               makes a file of the tree that is the input
//
// LIMIT is of the product's bytes. Descriptors are those of answer.h; the answer is a byte, 0 and then what the command
// answers, or the number of a problem and a sentence. Status 0 whenever there is an answer.

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "sandbox.h"

enum { status_usage = 64 };

/// For what the library and the answer need, beside the file itself.
static const uint64_t memory_limit = 512 << 20;

/// Seconds of processor time: a file of as many objects as are read takes two, and packed numbers come at more than 50
/// MB a second.
static uint64_t seconds_limit(uint64_t input_count) { return 4 + input_count / (50 << 20); }

static uint64_t number(const char *text) {
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || end == text || *end != 0 || value > INT64_MAX) _exit(status_usage);
  return value;
}

// The bytes of the input from `offset` on, of which pages are read when they are used.
static const uint8_t *map_input(uint64_t offset, uint64_t count) {
  struct stat info;
  uint64_t lead = offset % (uint64_t)sysconf(_SC_PAGESIZE);
  if (fstat(descriptor_input, &info) != 0 || offset > (uint64_t)info.st_size || count > (uint64_t)info.st_size - offset)
    refuse(problem_malformed, "the file is shorter than it was");
  if (count == 0) refuse(problem_malformed, "there is nothing to read");
  void *base = mmap(NULL, count + lead, PROT_READ, MAP_PRIVATE, descriptor_input, (off_t)(offset - lead));
  if (base == MAP_FAILED) refuse(problem_limit, "the file cannot be mapped: %s", strerror(errno));
  return (const uint8_t *)base + lead;
}

static void prepare_library(void) {
  // Filters that are not the library's own would be code from other files.
  if (H5open() < 0 || H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0 || H5PLset_loading_state(0) < 0)
    refuse_hdf5("HDF5's library does not start");
}

int main(int count, char **arguments) {
  // Nothing of the daemon's but what was handed over.
  if (close_range(descriptor_product + 1, ~0U, 0) != 0) return status_usage;
  if (count == 5 && strcmp(arguments[1], "index") == 0) {
    uint64_t size = number(arguments[3]);
    uint64_t limit = number(arguments[4]);
    limit_resources(size + memory_limit, seconds_limit(size), limit > memory_limit ? limit : memory_limit);
    const uint8_t *base = map_input(number(arguments[2]), size);
    prepare_library();
    confine();
    index_file(base, size, limit);
  } else if (count == 3 && strcmp(arguments[1], "create") == 0) {
    struct stat info;
    uint64_t limit = number(arguments[2]);
    if (fstat(descriptor_input, &info) != 0) return status_usage;
    uint64_t size = (uint64_t)info.st_size;
    limit_resources(size + memory_limit, seconds_limit(size), limit > memory_limit ? limit : memory_limit);
    const uint8_t *base = map_input(0, size);
    prepare_library();
    confine();
    create_file((struct request){.bytes = base, .count = size, .position = 0});
  } else {
    fputs("espalier-hdf5 works for espalierd, which starts it when a model holds HDF5.\n", stderr);
    return status_usage;
  }
  // The library's own tidying up would only take time.
  _exit(0);
}
