#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attributes.h"
#include "commands.h"
#include "contents.h"
#include "driver.h"
#include "visited.h"

// Reading a file: a walk over all links from the root. Whatever would lead out of the file, or round in circles, ends
// it.

enum {
  deepest = 64,
  most_objects = 100000,
  largest_name = 4096,
  oldest_header = 1,
};

struct walk {
  struct answer answer;
  struct contents contents;
  struct visited visited;
  /// Of the group whose members are walked over, from the root, without a slash at its end.
  char path[(deepest + 1) * 256];
  size_t path_count;
  int depth;
  uint32_t members;
};

static void put_node(struct walk *walk, hid_t object);

static const char *path_of(const struct walk *walk) { return walk->path_count ? walk->path : "/"; }

// Appends a component to the path, shortened where there is no room: the path serves sentences.
static size_t enter(struct walk *walk, const char *name) {
  size_t before = walk->path_count;
  size_t room = sizeof walk->path - before;
  int written = snprintf(walk->path + before, room, "/%s", name);
  walk->path_count += written < 0 ? 0 : (size_t)written < room ? (size_t)written : room - 1;
  return before;
}

static void leave(struct walk *walk, size_t path_count) {
  walk->path_count = path_count;
  walk->path[path_count] = 0;
}

static void check_link(const struct walk *walk, const char *name, const H5L_info_t *info) {
  if (strlen(name) > largest_name)
    refuse(problem_limit, "a member of '%s' has a name of more than %d bytes", path_of(walk), largest_name);
  if (name[0] == 0 || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
    refuse(problem_malformed, "a member of '%s' is named '%.200s', which no member can be", path_of(walk), name);
  switch (info->type) {
    case H5L_TYPE_HARD: return;
    case H5L_TYPE_SOFT:
      refuse(problem_unsupported, "'%s/%.200s' is a soft link; save the model again, without links", walk->path, name);
    case H5L_TYPE_EXTERNAL:
      refuse(problem_unsafe, "'%s/%.200s' is a link to another file, which is not followed", walk->path, name);
    default: refuse(problem_unsafe, "'%s/%.200s' is a link of a kind that programs define", walk->path, name);
  }
}

static herr_t put_member(hid_t group, const char *name, const H5L_info_t *info, void *data) {
  struct walk *walk = data;
  check_link(walk, name, info);
  walk->members++;
  put_text(&walk->answer, name, strlen(name));
  size_t before = enter(walk, name);
  hid_t object = H5Oopen(group, name, H5P_DEFAULT);
  if (object < 0) refuse_hdf5("'%s' cannot be opened", path_of(walk));
  put_node(walk, object);
  H5Oclose(object);
  leave(walk, before);
  return 0;
}

// Which orders of creation the object keeps. Objects of the oldest format, and so Keras's, keep none; to ask for an
// object's properties takes as long as all the rest.
static uint8_t orders_of(hid_t object, const H5O_info_t *info, const char *path) {
  if (info->hdr.version == oldest_header) return 0;
  bool is_group = info->type == H5O_TYPE_GROUP;
  hid_t properties = is_group ? H5Gget_create_plist(object) : H5Dget_create_plist(object);
  unsigned links = 0, attributes = 0;
  if (properties < 0 || H5Pget_attr_creation_order(properties, &attributes) < 0 ||
      (is_group && H5Pget_link_creation_order(properties, &links) < 0))
    refuse_hdf5("the properties of '%s' cannot be read", path);
  H5Pclose(properties);
  return (uint8_t)((links & H5P_CRT_ORDER_TRACKED ? orders_links : 0) |
                   (attributes & H5P_CRT_ORDER_TRACKED ? orders_attributes : 0));
}

static void put_group(struct walk *walk, hid_t group, const H5O_info_t *info) {
  if (walk->depth >= deepest) refuse(problem_limit, "groups are nested more than %d deep", deepest);
  uint8_t orders = orders_of(group, info, path_of(walk));
  put_u8(&walk->answer, node_group);
  put_u8(&walk->answer, orders);
  put_attributes(&walk->answer, group, path_of(walk), info->num_attrs, orders & orders_attributes);
  size_t start = walk->answer.count;
  put_u32(&walk->answer, 0);
  uint32_t before = walk->members;
  walk->members = 0;
  walk->depth++;
  H5_index_t index = orders & orders_links ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME;
  if (H5Literate(group, index, H5_ITER_INC, NULL, put_member, walk) < 0)
    refuse_hdf5("the members of '%s' cannot be read", path_of(walk));
  walk->depth--;
  set_u32(&walk->answer, start, walk->members);
  walk->members = before;
}

static void put_dataset(struct walk *walk, hid_t dataset, const H5O_info_t *info) {
  uint8_t orders = orders_of(dataset, info, walk->path);
  put_u8(&walk->answer, node_dataset);
  put_u8(&walk->answer, orders);
  put_contents(&walk->answer, &walk->contents, dataset, walk->path);
  put_attributes(&walk->answer, dataset, walk->path, info->num_attrs, orders & orders_attributes);
}

static void put_node(struct walk *walk, hid_t object) {
  H5O_info_t info;
  if (H5Oget_info2(object, &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS | H5O_INFO_HDR) < 0)
    refuse_hdf5("'%s' cannot be read", path_of(walk));
  if (!visit(&walk->visited, info.addr))
    refuse(problem_malformed, "'%s' is an object that has another path too; save the model again, without links",
           walk->path);
  if (walk->visited.count > most_objects) refuse(problem_limit, "the file has more than %d objects", most_objects);
  switch (info.type) {
    case H5O_TYPE_GROUP: put_group(walk, object, &info); return;
    case H5O_TYPE_DATASET: put_dataset(walk, object, &info); return;
    case H5O_TYPE_NAMED_DATATYPE:
      refuse(problem_unsupported, "'%s' is a named type, which networks do not have", walk->path);
    default: refuse(problem_malformed, "'%s' is an object of no known kind", walk->path);
  }
}

void index_file(const void *base, size_t count, uint64_t product_limit) {
  hid_t file = H5Fopen("model", H5F_ACC_RDONLY, memory_access(base, count));
  if (file < 0) refuse_hdf5("this is no HDF5 file, or a damaged one");
  hid_t root = H5Gopen2(file, "/", H5P_DEFAULT);
  if (root < 0) refuse_hdf5("the file has no root");
  struct walk *walk = allocate(sizeof *walk);
  walk->contents = (struct contents){.file_count = count, .product_limit = product_limit};
  put_node(walk, root);
  deliver(&walk->answer);
}
