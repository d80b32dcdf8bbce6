// The tree that a file is to be made of, as the daemon says it: the same stream as an answer's, read with every length
// checked.
#pragma once

#include "shape.h"
#include "types.h"

struct request {
  const uint8_t *bytes;
  size_t count;
  size_t position;
};

uint8_t next_u8(struct request *request);
uint32_t next_u32(struct request *request);
uint64_t next_u64(struct request *request);
/// Length (32 bits), then that many bytes, as a text of its own that the caller frees.
char *next_text(struct request *request);
/// Length (32 bits), then that many bytes, as a request of their own within this one's memory.
struct request next_part(struct request *request);
struct type next_type(struct request *request);
struct shape next_shape(struct request *request);
