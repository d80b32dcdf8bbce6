#include "request.h"

#include <string.h>

static const uint8_t *next(struct request *request, size_t count) {
  if (count > request->count - request->position) refuse(problem_malformed, "the tree to be written is cut off");
  const uint8_t *bytes = request->bytes + request->position;
  request->position += count;
  return bytes;
}

static uint64_t next_number(struct request *request, int count) {
  const uint8_t *bytes = next(request, (size_t)count);
  uint64_t value = 0;
  for (int i = 0; i < count; i++) value |= (uint64_t)bytes[i] << (8 * i);
  return value;
}

uint8_t next_u8(struct request *request) { return (uint8_t)next_number(request, 1); }
uint32_t next_u32(struct request *request) { return (uint32_t)next_number(request, 4); }
uint64_t next_u64(struct request *request) { return next_number(request, 8); }

char *next_text(struct request *request) {
  struct request part = next_part(request);
  char *text = allocate(part.count + 1);
  memcpy(text, part.bytes, part.count);
  return text;
}

struct request next_part(struct request *request) {
  uint32_t count = next_u32(request);
  return (struct request){.bytes = next(request, count), .count = count, .position = 0};
}

struct type next_type(struct request *request) {
  struct type type = {.class = (enum type_class)next_u8(request)};
  type.size = next_u32(request);
  type.is_signed = next_u8(request) != 0;
  type.padding = next_u8(request);
  type.character_set = next_u8(request);
  struct request tag = next_part(request);
  if (tag.count >= sizeof type.tag) refuse(problem_malformed, "the tag of an opaque type is too long");
  memcpy(type.tag, tag.bytes, tag.count);
  return type;
}

struct shape next_shape(struct request *request) {
  uint8_t rank = next_u8(request);
  if (rank == 255) return (struct shape){.rank = -1};
  if (rank > H5S_MAX_RANK) refuse(problem_malformed, "a shape has %d axes; HDF5 has up to %d", rank, H5S_MAX_RANK);
  struct shape shape = {.rank = rank};
  for (int axis = 0; axis < rank; axis++) shape.lengths[axis] = next_u64(request);
  return shape;
}
