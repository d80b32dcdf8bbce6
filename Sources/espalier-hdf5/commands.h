// The worker's two commands, and the words of the protocol that both know.
//
// A tree is, in the order of reading: `node_group`, its orders, its attributes (their number, then each: name, type,
// shape, value), the number of its members, and each member's name and node; or `node_dataset`, its orders, type and
// shape, in an answer the place of its contents, and its attributes.
#pragma once

#include "request.h"

enum node {
  node_group = 1,
  node_dataset = 2,
};

/// What an object keeps the order of creation of.
enum orders {
  orders_links = 1,
  orders_attributes = 2,
};

/// Where the contents of a dataset are.
enum place {
  /// There are none.
  place_nowhere = 0,
  /// In the file, from an offset on, as they are.
  place_file = 1,
  /// In the product, from an offset on: unpacked.
  place_product = 2,
};

/// Answers with the tree of the HDF5 file in memory.
/// - Parameter product_limit: the most bytes of contents that are unpacked.
void index_file(const void *base, size_t count, uint64_t product_limit);

/// Makes an HDF5 file as the product, with room for the contents of its datasets. The request is a byte, 1 if the file
/// needs a newer format than the oldest, then the tree; the answer is the offset of every dataset's contents in the
/// order of the tree, 0 where it has none.
void create_file(struct request request);
