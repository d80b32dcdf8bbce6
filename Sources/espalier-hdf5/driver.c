#include "driver.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"

// One file in the life of the process.
static struct {
  const uint8_t *base;
  /// -1 if the file is read.
  int descriptor;
  /// Bytes there are: in memory, or written so far.
  haddr_t count;
} store;

struct driver_file {
  H5FD_t base;
  /// What the library has allotted.
  haddr_t allotted;
};

static struct driver_file opened;

static H5FD_t *open_file(const char *name, unsigned flags, hid_t properties, haddr_t largest) {
  (void)name, (void)properties, (void)largest;
  if ((flags & H5F_ACC_RDWR) && store.descriptor < 0) return NULL;
  memset(&opened, 0, sizeof opened);
  return &opened.base;
}

static herr_t close_file(H5FD_t *file) {
  (void)file;
  return 0;
}

// As the library's own driver for files: small pieces are put together.
static herr_t query(const H5FD_t *file, unsigned long *flags) {
  (void)file;
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
           H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

static haddr_t get_allotted(const H5FD_t *file, H5FD_mem_t type) {
  (void)type;
  return ((const struct driver_file *)file)->allotted;
}

static herr_t set_allotted(H5FD_t *file, H5FD_mem_t type, haddr_t count) {
  (void)type;
  ((struct driver_file *)file)->allotted = count;
  return 0;
}

static haddr_t get_count(const H5FD_t *file, H5FD_mem_t type) {
  (void)file, (void)type;
  return store.count;
}

// What was allotted and never written reads as zeros.
static herr_t read_written(haddr_t offset, size_t count, uint8_t *buffer) {
  while (count > 0) {
    ssize_t got = pread(store.descriptor, buffer, count, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) {
      memset(buffer, 0, count);
      return 0;
    }
    buffer += got;
    offset += (haddr_t)got;
    count -= (size_t)got;
  }
  return 0;
}

static herr_t read_file(H5FD_t *file, H5FD_mem_t type, hid_t properties, haddr_t offset, size_t count, void *buffer) {
  (void)file, (void)type, (void)properties;
  if (store.descriptor >= 0) return read_written(offset, count, buffer);
  if (offset > store.count || count > store.count - offset) return -1;
  memcpy(buffer, store.base + offset, count);
  return 0;
}

static herr_t write_file(H5FD_t *file, H5FD_mem_t type, hid_t properties, haddr_t offset, size_t count,
                         const void *buffer) {
  (void)file, (void)type, (void)properties;
  if (store.descriptor < 0) return -1;
  const uint8_t *rest = buffer;
  while (count > 0) {
    ssize_t written = pwrite(store.descriptor, rest, count, (off_t)offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return -1;
    rest += written;
    offset += (haddr_t)written;
    count -= (size_t)written;
  }
  if (offset > store.count) store.count = offset;
  return 0;
}

static herr_t truncate_file(H5FD_t *file, hid_t properties, hbool_t is_closing) {
  (void)properties, (void)is_closing;
  haddr_t count = ((struct driver_file *)file)->allotted;
  if (store.descriptor < 0 || count == store.count) return 0;
  if (ftruncate(store.descriptor, (off_t)count) != 0) return -1;
  store.count = count;
  return 0;
}

static const H5FD_class_t driver = {
#if H5_VERSION_GE(1, 13, 2)
    .version = H5FD_CLASS_VERSION,
    .value = H5FD_CLASS_VALUE_INVALID + 600,
#endif
    .name = "espalier",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_WEAK,
    .open = open_file,
    .close = close_file,
    .query = query,
    .get_eoa = get_allotted,
    .set_eoa = set_allotted,
    .get_eof = get_count,
    .read = read_file,
    .write = write_file,
    .truncate = truncate_file,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

static hid_t access_properties(void) {
  hid_t properties = H5Pcreate(H5P_FILE_ACCESS);
  hid_t id = H5FDregister(&driver);
  if (properties < 0 || id < 0 || H5Pset_driver(properties, id, NULL) < 0)
    refuse_hdf5("HDF5's library cannot be set up");
  return properties;
}

hid_t memory_access(const void *base, size_t count) {
  store.base = base;
  store.count = count;
  store.descriptor = -1;
  return access_properties();
}

hid_t descriptor_access(int descriptor) {
  store.descriptor = descriptor;
  return access_properties();
}
