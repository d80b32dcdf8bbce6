#include "answer.h"

#include <errno.h>
#include <hdf5.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A network has some thousands of datasets and a configuration of some megabytes.
enum { largest_answer = 128 << 20 };

static void reserve(struct answer *answer, size_t count) {
  if (count > largest_answer - answer->count) refuse(problem_limit, "the file describes itself at too great length");
  size_t needed = answer->count + count;
  if (needed <= answer->capacity) return;
  size_t capacity = answer->capacity ? answer->capacity : 1 << 16;
  while (capacity < needed) capacity *= 2;
  uint8_t *bytes = realloc(answer->bytes, capacity);
  if (!bytes) refuse(problem_limit, "there is no memory for what the file describes");
  answer->bytes = bytes;
  answer->capacity = capacity;
}

static void put_number(struct answer *answer, uint64_t value, int count) {
  reserve(answer, (size_t)count);
  for (int i = 0; i < count; i++) answer->bytes[answer->count++] = (uint8_t)(value >> (8 * i));
}

void put_u8(struct answer *answer, uint8_t value) { put_number(answer, value, 1); }
void put_u32(struct answer *answer, uint32_t value) { put_number(answer, value, 4); }
void put_u64(struct answer *answer, uint64_t value) { put_number(answer, value, 8); }

void put_bytes(struct answer *answer, const void *bytes, size_t count) {
  if (count == 0) return;
  reserve(answer, count);
  memcpy(answer->bytes + answer->count, bytes, count);
  answer->count += count;
}

void put_text(struct answer *answer, const char *text, size_t count) {
  if (count > largest_answer) refuse(problem_limit, "the file holds a text of %zu bytes", count);
  put_u32(answer, (uint32_t)count);
  put_bytes(answer, text, count);
}

void set_u32(struct answer *answer, size_t offset, uint32_t value) {
  for (int i = 0; i < 4; i++) answer->bytes[offset + (size_t)i] = (uint8_t)(value >> (8 * i));
}

void write_all(int descriptor, const void *bytes, size_t count) {
  const uint8_t *rest = bytes;
  while (count > 0) {
    ssize_t written = write(descriptor, rest, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) _exit(2);
    rest += written;
    count -= (size_t)written;
  }
}

void deliver(const struct answer *answer) {
  uint8_t well = 0;
  write_all(descriptor_answer, &well, 1);
  write_all(descriptor_answer, answer->bytes, answer->count);
}

void *allocate(size_t count) {
  void *memory = calloc(count ? count : 1, 1);
  if (!memory) refuse(problem_limit, "there is no memory for %zu bytes that the file asks for", count);
  return memory;
}

static _Noreturn void end(enum problem problem, const char *sentence) {
  uint8_t code = (uint8_t)problem;
  write_all(descriptor_answer, &code, 1);
  write_all(descriptor_answer, sentence, strlen(sentence));
  _exit(0);
}

void refuse(enum problem problem, const char *format, ...) {
  char sentence[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  end(problem, sentence);
}

struct reason {
  char text[256];
  bool is_memory;
};

// The library's errors, the one that happened first before those that follow from it.
static herr_t note_reason(unsigned index, const H5E_error2_t *error, void *data) {
  struct reason *reason = data;
  if (index == 0) snprintf(reason->text, sizeof reason->text, "%s", error->desc ? error->desc : "");
  reason->is_memory |= error->min_num == H5E_NOSPACE || error->min_num == H5E_CANTALLOC;
  return 0;
}

void refuse_hdf5(const char *format, ...) {
  struct reason reason = {.text = "", .is_memory = false};
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_reason, &reason);
  char what[1536];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  refuse(reason.is_memory ? problem_limit : problem_malformed, "%s (HDF5: %s)", what,
         reason.text[0] ? reason.text : "no reason given");
}
