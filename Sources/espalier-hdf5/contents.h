// Where the contents of datasets are. Those that are plain bytes of the file stay there, and the daemon reads them
// itself; chunks, packed or not, are put together here, up to a limit.
#pragma once

#include <hdf5.h>

#include "answer.h"

struct contents {
  uint64_t file_count;
  /// Bytes that datasets have as they are in the file. No more than the file has: datasets do not share bytes.
  uint64_t plain_count;
  uint64_t product_count;
  uint64_t product_limit;
};

/// Puts type, shape and place of a dataset's contents: `place`, its offset, its bytes.
void put_contents(struct answer *answer, struct contents *contents, hid_t dataset, const char *path);
