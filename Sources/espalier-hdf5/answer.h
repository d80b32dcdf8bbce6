// What the worker says to the daemon: a stream of little-endian numbers and texts that is built in memory and written
// to a descriptor in one go, or the reason why there is none. Whoever meets a problem ends the process through
// `refuse`: there is nothing to tidy up in a process that serves one file.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// The descriptors that the worker inherits.
enum descriptor {
  /// What is read: the HDF5 file to index, or the tree to create one from.
  descriptor_input = 0,
  /// The answer.
  descriptor_answer = 1,
  /// What is produced: contents of datasets that are not plain bytes of the file, or the new file.
  descriptor_product = 3,
};

/// Why there is no answer. The numbers are the protocol's.
enum problem {
  problem_malformed = 1,
  problem_unsafe = 2,
  problem_limit = 3,
  problem_unsupported = 4,
};

/// A text of the answer that grows; the process ends (`problem_limit`) where it grows beyond all measure.
struct answer {
  uint8_t *bytes;
  size_t count;
  size_t capacity;
};

void put_u8(struct answer *answer, uint8_t value);
void put_u32(struct answer *answer, uint32_t value);
void put_u64(struct answer *answer, uint64_t value);
void put_bytes(struct answer *answer, const void *bytes, size_t count);
/// Length (32 bits), then the bytes.
void put_text(struct answer *answer, const char *text, size_t count);
/// Writes a number in the place of another, which `put_u32` made at `offset`.
void set_u32(struct answer *answer, size_t offset, uint32_t value);

/// Writes `answer` after the word that all is well.
void deliver(const struct answer *answer);

/// Writes all bytes, or ends the process.
void write_all(int descriptor, const void *bytes, size_t count);

/// Memory, zeroed, or the end of the process.
void *allocate(size_t count);

/// Ends the process with the problem and a sentence for people as its answer.
_Noreturn void refuse(enum problem problem, const char *format, ...) __attribute__((format(printf, 2, 3)));

/// The same where HDF5's library reported an error, whose reason is added: malformed, or limit where memory ran out.
_Noreturn void refuse_hdf5(const char *format, ...) __attribute__((format(printf, 1, 2)));
