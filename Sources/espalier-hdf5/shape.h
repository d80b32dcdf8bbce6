// Lengths by axis, between HDF5's dataspaces and the protocol.
#pragma once

#include <hdf5.h>

#include "answer.h"

struct shape {
  /// No axes: one element. -1: no elements at all, HDF5's null space.
  int rank;
  hsize_t lengths[H5S_MAX_RANK];
};

struct shape shape_of(hid_t space, const char *what);
hid_t make_space(const struct shape *shape);

/// The number of elements; the process ends (`problem_malformed`) if that is no number of 63 bits.
uint64_t shape_count(const struct shape *shape, const char *what);

void put_shape(struct answer *answer, const struct shape *shape);
