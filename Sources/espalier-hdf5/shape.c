#include "shape.h"

enum { null_space = 255 };

struct shape shape_of(hid_t space, const char *what) {
  struct shape shape = {.rank = -1};
  H5S_class_t class = H5Sget_simple_extent_type(space);
  if (class == H5S_NULL) return shape;
  if (class == H5S_NO_CLASS) refuse_hdf5("%s has a damaged shape", what);
  shape.rank = H5Sget_simple_extent_ndims(space);
  if (shape.rank < 0 || shape.rank > H5S_MAX_RANK || H5Sget_simple_extent_dims(space, shape.lengths, NULL) < 0)
    refuse_hdf5("%s has a damaged shape", what);
  return shape;
}

hid_t make_space(const struct shape *shape) {
  hid_t space = shape->rank < 0    ? H5Screate(H5S_NULL)
                : shape->rank == 0 ? H5Screate(H5S_SCALAR)
                                   : H5Screate_simple(shape->rank, shape->lengths, NULL);
  if (space < 0) refuse_hdf5("a shape cannot be made");
  return space;
}

uint64_t shape_count(const struct shape *shape, const char *what) {
  if (shape->rank < 0) return 0;
  // An axis of no length makes it none, however long the others are.
  for (int axis = 0; axis < shape->rank; axis++) {
    if (shape->lengths[axis] == 0) return 0;
  }
  uint64_t count = 1;
  for (int axis = 0; axis < shape->rank; axis++) {
    if (__builtin_mul_overflow(count, shape->lengths[axis], &count) || count > INT64_MAX)
      refuse(problem_malformed, "%s claims more elements than there can be", what);
  }
  return count;
}

void put_shape(struct answer *answer, const struct shape *shape) {
  put_u8(answer, shape->rank < 0 ? null_space : (uint8_t)shape->rank);
  for (int axis = 0; axis < shape->rank; axis++) put_u64(answer, shape->lengths[axis]);
}
