#include <stdlib.h>

#include "attributes.h"
#include "commands.h"
#include "driver.h"

// A tree is written as Keras's own writer, h5py, would: format of HDF5 1.6 unless something needs a newer one,
// contiguous datasets, no times, so that equal trees are equal bytes.

enum { deepest = 64 };

// Names beyond ASCII are marked as UTF-8; others are not, as with h5py: the mark needs a newer format.
static hid_t link_properties(const char *name) {
  for (const char *c = name; *c; c++) {
    if ((unsigned char)*c < 0x80) continue;
    hid_t properties = H5Pcreate(H5P_LINK_CREATE);
    if (properties < 0 || H5Pset_char_encoding(properties, H5T_CSET_UTF8) < 0)
      refuse_hdf5("'%s' cannot be named", name);
    return properties;
  }
  return H5P_DEFAULT;
}

static void set_orders(hid_t properties, uint8_t flags) {
  unsigned kept = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
  if (H5Pset_obj_track_times(properties, 0) < 0 ||
      ((flags & orders_links) && H5Pset_link_creation_order(properties, kept) < 0) ||
      ((flags & orders_attributes) && H5Pset_attr_creation_order(properties, kept) < 0))
    refuse_hdf5("the order of members cannot be kept");
}

static void create_members(struct request *request, hid_t group, struct answer *answer, int depth);

static void create_dataset(struct request *request, hid_t parent, const char *name, struct answer *answer) {
  uint8_t flags = next_u8(request);
  struct type type = next_type(request);
  struct shape shape = next_shape(request);
  hid_t space = make_space(&shape);
  hid_t stored = make_type(&type);
  hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  if (properties < 0 || H5Pset_layout(properties, H5D_CONTIGUOUS) < 0 ||
      H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY) < 0 || H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER) < 0)
    refuse_hdf5("dataset '%s' cannot be laid out", name);
  set_orders(properties, flags & orders_attributes);
  hid_t links = link_properties(name);
  hid_t dataset = H5Dcreate2(parent, name, stored, space, links, properties, H5P_DEFAULT);
  if (dataset < 0) refuse_hdf5("dataset '%s' cannot be made", name);
  haddr_t offset = shape_count(&shape, name) ? H5Dget_offset(dataset) : 0;
  if (offset == HADDR_UNDEF) refuse_hdf5("dataset '%s' got no room", name);
  put_u64(answer, offset);
  create_attributes(request, dataset);
  H5Dclose(dataset);
  H5Pclose(properties);
  H5Tclose(stored);
  H5Sclose(space);
  if (links != H5P_DEFAULT) H5Pclose(links);
}

static void create_group(struct request *request, hid_t parent, const char *name, struct answer *answer, int depth) {
  if (depth > deepest) refuse(problem_limit, "groups are nested more than %d deep", deepest);
  hid_t properties = H5Pcreate(H5P_GROUP_CREATE);
  if (properties < 0) refuse_hdf5("group '%s' cannot be made", name);
  set_orders(properties, next_u8(request));
  hid_t links = link_properties(name);
  hid_t group = H5Gcreate2(parent, name, links, properties, H5P_DEFAULT);
  if (group < 0) refuse_hdf5("group '%s' cannot be made", name);
  create_attributes(request, group);
  create_members(request, group, answer, depth);
  H5Gclose(group);
  H5Pclose(properties);
  if (links != H5P_DEFAULT) H5Pclose(links);
}

static void create_members(struct request *request, hid_t group, struct answer *answer, int depth) {
  for (uint32_t rest = next_u32(request); rest > 0; rest--) {
    char *name = next_text(request);
    switch (next_u8(request)) {
      case node_group: create_group(request, group, name, answer, depth + 1); break;
      case node_dataset: create_dataset(request, group, name, answer); break;
      default: refuse(problem_malformed, "'%s' is neither a group nor a dataset", name);
    }
    free(name);
  }
}

void create_file(struct request request) {
  bool needs_newer = next_u8(&request) != 0;
  hid_t access = descriptor_access(descriptor_product);
  hid_t properties = H5Pcreate(H5P_FILE_CREATE);
  if (properties < 0 ||
      (needs_newer && H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_LATEST) < 0) ||
      // Small datasets lie by themselves, so that files of one structure differ in size by what their datasets hold.
      H5Pset_small_data_block_size(access, 0) < 0)
    refuse_hdf5("HDF5's library cannot be set up");
  if (next_u8(&request) != node_group) refuse(problem_malformed, "the tree to be written has no root");
  set_orders(properties, next_u8(&request));
  hid_t file = H5Fcreate("model", H5F_ACC_TRUNC, properties, access);
  if (file < 0) refuse_hdf5("the file cannot be made");
  hid_t root = H5Gopen2(file, "/", H5P_DEFAULT);
  if (root < 0) refuse_hdf5("the file has no root");
  struct answer answer = {0};
  create_attributes(&request, root);
  create_members(&request, root, &answer, 0);
  if (request.position != request.count) refuse(problem_malformed, "the tree to be written has trailing bytes");
  H5Gclose(root);
  if (H5Fclose(file) < 0) refuse_hdf5("the file cannot be completed");
  deliver(&answer);
}
