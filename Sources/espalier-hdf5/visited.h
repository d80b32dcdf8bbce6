// The objects that a walk has met, by their address in the file.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct visited {
  size_t count;
  /// Of `slots`: a power of two.
  size_t capacity;
  /// Addresses plus one; 0 where there is none.
  uint64_t *slots;
};

/// Adds `address`. Returns false if it was there.
bool visit(struct visited *visited, uint64_t address);
