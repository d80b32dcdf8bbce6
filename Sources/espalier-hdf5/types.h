// The element types that networks are stored in, between HDF5's descriptions of types and the protocol's.
#pragma once

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "answer.h"

/// The numbers are the protocol's.
enum type_class {
  type_integer = 1,
  type_float = 2,
  /// NumPy's bool as h5py stores it: an enumeration of FALSE and TRUE on one byte.
  type_bool = 3,
  type_opaque = 4,
  type_fixed_string = 5,
  type_variable_string = 6,
};

struct type {
  enum type_class class;
  /// Bytes of an element; 0 for strings of variable length.
  uint32_t size;
  bool is_signed;
  /// Of strings: H5T_str_t and H5T_cset_t.
  uint8_t padding;
  uint8_t character_set;
  /// Of opaque types: what their writer says that they are.
  char tag[H5T_OPAQUE_TAG_MAX];
};

/// The type that the library calls `type`; the process ends (`problem_unsupported`) where it is none of these, naming
/// `what`. All are little-endian.
struct type type_of(hid_t type, const char *what);

/// The library's type.
hid_t make_type(const struct type *type);

void put_type(struct answer *answer, const struct type *type);
