#include "contents.h"

#include <stdio.h>
#include <stdlib.h>

#include "commands.h"

enum {
  /// Bytes unpacked at once, or one chunk if that is more.
  slab_size = 16 << 20,
  largest_chunk = 64 << 20,
};

struct dataset {
  hid_t id;
  const char *path;
  struct type type;
  struct shape shape;
  uint64_t count;
};

// Filters of other makers would need code that is not here; lzf is h5py's own.
static void check_filters(hid_t properties, const char *path) {
  int count = H5Pget_nfilters(properties);
  if (count < 0) refuse_hdf5("the filters of '%s' cannot be read", path);
  for (int i = 0; i < count; i++) {
    unsigned flags, settings;
    size_t setting_count = 0;
    char name[64] = "";
    H5Z_filter_t filter =
        H5Pget_filter2(properties, (unsigned)i, &flags, &setting_count, &settings, sizeof name, name, NULL);
    if (filter < 0) refuse_hdf5("the filters of '%s' cannot be read", path);
    name[sizeof name - 1] = 0;
    if (filter < H5Z_FILTER_RESERVED && H5Zfilter_avail(filter) > 0) continue;
    refuse(problem_unsupported,
           "dataset '%s' is packed by filter %d (%s), which HDF5's own library does not have; save it with gzip, "
           "or as it is",
           path, (int)filter, name[0] ? name : "unnamed");
  }
}

static void check_external(hid_t properties, const char *path) {
  int count = H5Pget_external_count(properties);
  if (count < 0) refuse_hdf5("the place of '%s' cannot be read", path);
  if (count > 0) refuse(problem_unsafe, "the contents of dataset '%s' are in another file, which is not read", path);
}

// Rows along the first axis that are unpacked together: whole rows of chunks, so that no chunk is unpacked twice.
static uint64_t rows_at_once(const struct dataset *dataset, hid_t properties, H5D_layout_t layout) {
  uint64_t row = dataset->count / dataset->shape.lengths[0];
  uint64_t step = 1;
  if (layout == H5D_CHUNKED) {
    hsize_t lengths[H5S_MAX_RANK];
    int rank = H5Pget_chunk(properties, H5S_MAX_RANK, lengths);
    if (rank != dataset->shape.rank) refuse_hdf5("the chunks of '%s' do not have its axes", dataset->path);
    uint64_t bytes = dataset->type.size;
    for (int axis = 0; axis < rank; axis++) {
      if (__builtin_mul_overflow(bytes, lengths[axis], &bytes) || bytes > largest_chunk)
        refuse(problem_limit, "the chunks of dataset '%s' have more than %d bytes", dataset->path, largest_chunk);
    }
    step = lengths[0];
    if (step == 0) refuse(problem_malformed, "dataset '%s' has chunks of no length", dataset->path);
  }
  uint64_t steps = slab_size / row / step;
  uint64_t rows = step * (steps ? steps : 1);
  return rows < dataset->shape.lengths[0] ? rows : dataset->shape.lengths[0];
}

static void read_slab(const struct dataset *dataset, hid_t memory_type, uint64_t start, uint64_t rows, void *buffer) {
  struct shape slab = dataset->shape;
  hsize_t offset[H5S_MAX_RANK] = {start};
  slab.lengths[0] = rows;
  hid_t memory = make_space(&slab);
  hid_t file = H5Dget_space(dataset->id);
  if (file < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, offset, NULL, slab.lengths, NULL) < 0 ||
      H5Dread(dataset->id, memory_type, memory, file, H5P_DEFAULT, buffer) < 0)
    refuse_hdf5("the contents of dataset '%s' cannot be read", dataset->path);
  H5Sclose(file);
  H5Sclose(memory);
}

static void unpack(const struct dataset *dataset, hid_t properties, H5D_layout_t layout) {
  hid_t type = make_type(&dataset->type);
  if (dataset->shape.rank == 0) {
    void *buffer = allocate(dataset->count);
    if (H5Dread(dataset->id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer) < 0)
      refuse_hdf5("the contents of dataset '%s' cannot be read", dataset->path);
    write_all(descriptor_product, buffer, dataset->count);
    free(buffer);
  } else {
    uint64_t rows = rows_at_once(dataset, properties, layout);
    uint64_t row = dataset->count / dataset->shape.lengths[0];
    if (rows * row > 2 * (uint64_t)largest_chunk)
      refuse(problem_limit, "the rows of dataset '%s' have more than %d bytes", dataset->path, largest_chunk);
    void *buffer = allocate(rows * row);
    for (uint64_t start = 0; start < dataset->shape.lengths[0]; start += rows) {
      uint64_t rest = dataset->shape.lengths[0] - start;
      uint64_t count = rest < rows ? rest : rows;
      read_slab(dataset, type, start, count, buffer);
      write_all(descriptor_product, buffer, count * row);
    }
    free(buffer);
  }
  H5Tclose(type);
}

static void put_place(struct answer *answer, enum place place, uint64_t offset, uint64_t count) {
  put_u8(answer, (uint8_t)place);
  put_u64(answer, offset);
  put_u64(answer, count);
}

static void put_plain(struct answer *answer, struct contents *contents, const struct dataset *dataset, haddr_t offset) {
  if (offset > contents->file_count || dataset->count > contents->file_count - offset)
    refuse(problem_malformed, "the contents of dataset '%s' reach beyond the end of the file", dataset->path);
  contents->plain_count += dataset->count;
  if (contents->plain_count > contents->file_count)
    refuse(problem_malformed, "datasets up to '%s' claim more bytes than the file has", dataset->path);
  put_place(answer, place_file, offset, dataset->count);
}

static void put_unpacked(struct answer *answer, struct contents *contents, const struct dataset *dataset,
                         hid_t properties, H5D_layout_t layout) {
  if (dataset->count > contents->product_limit - contents->product_count)
    refuse(problem_limit, "datasets up to '%s' unpack to more than %llu bytes", dataset->path,
           (unsigned long long)contents->product_limit);
  put_place(answer, place_product, contents->product_count, dataset->count);
  unpack(dataset, properties, layout);
  contents->product_count += dataset->count;
}

// What is not plain bytes of the file: chunks, contents within the header, and contents that were never written, which
// the library fills in.
static void put_stored(struct answer *answer, struct contents *contents, const struct dataset *dataset) {
  hid_t properties = H5Dget_create_plist(dataset->id);
  if (properties < 0) refuse_hdf5("the layout of '%s' cannot be read", dataset->path);
  check_external(properties, dataset->path);
  H5D_layout_t layout = H5Pget_layout(properties);
  if (layout == H5D_LAYOUT_ERROR) refuse_hdf5("the layout of '%s' cannot be read", dataset->path);
  if (layout == H5D_VIRTUAL)
    refuse(problem_unsafe, "dataset '%s' is a view of other datasets, which is not followed", dataset->path);
  check_filters(properties, dataset->path);
  if (dataset->count == 0) {
    put_place(answer, place_nowhere, 0, 0);
  } else {
    put_unpacked(answer, contents, dataset, properties, layout);
  }
  H5Pclose(properties);
}

void put_contents(struct answer *answer, struct contents *contents, hid_t id, const char *path) {
  char what[512];
  snprintf(what, sizeof what, "dataset '%.400s'", path);
  struct dataset dataset = {.id = id, .path = path};
  hid_t type = H5Dget_type(id);
  hid_t space = H5Dget_space(id);
  if (type < 0 || space < 0) refuse_hdf5("%s cannot be read", what);
  dataset.type = type_of(type, what);
  dataset.shape = shape_of(space, what);
  H5Sclose(space);
  H5Tclose(type);
  if (dataset.shape.rank < 0) refuse(problem_unsupported, "%s has no shape", what);
  if (dataset.type.class == type_variable_string || dataset.type.class == type_fixed_string)
    refuse(problem_unsupported, "%s holds strings, which networks' weights are not", what);
  if (__builtin_mul_overflow(shape_count(&dataset.shape, what), dataset.type.size, &dataset.count))
    refuse(problem_malformed, "%s claims more bytes than there can be", what);
  put_type(answer, &dataset.type);
  put_shape(answer, &dataset.shape);

  // Only contents that are in one piece and in this file have an offset.
  haddr_t offset = H5Dget_offset(id);
  if (offset == HADDR_UNDEF || dataset.count == 0) {
    put_stored(answer, contents, &dataset);
  } else {
    if (H5Dget_storage_size(id) != dataset.count) refuse(problem_malformed, "%s has not the bytes of its shape", what);
    put_plain(answer, contents, &dataset, offset);
  }
}
