#include "attributes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shape.h"
#include "types.h"

enum {
  /// In a file.
  most_attributes = 200000,
  largest_name = 4096,
  // Keras splits lists above 64 kB; a configuration of some megabytes is one text.
  largest_value = 64 << 20,
};

struct iteration {
  struct answer *answer;
  const char *path;
  uint32_t count;
};

static uint32_t attributes_in_file;

static size_t element_count(const struct shape *shape, uint32_t size, const char *what) {
  uint64_t count = shape_count(shape, what);
  if (count > largest_value / (size ? size : sizeof(char *)))
    refuse(problem_limit, "%s has %llu elements; attributes are read up to %d bytes", what, (unsigned long long)count,
           largest_value);
  return (size_t)count;
}

static void put_variable_strings(struct answer *answer, hid_t attribute, const struct type *type, hid_t space,
                                 size_t count, const char *what) {
  char **texts = allocate(count * sizeof *texts);
  hid_t memory = make_type(type);
  if (H5Aread(attribute, memory, texts) < 0) refuse_hdf5("%s cannot be read", what);
  size_t start = answer->count;
  put_u32(answer, 0);
  for (size_t i = 0; i < count; i++) put_text(answer, texts[i] ? texts[i] : "", texts[i] ? strlen(texts[i]) : 0);
  set_u32(answer, start, (uint32_t)(answer->count - start - 4));
  H5Dvlen_reclaim(memory, space, H5P_DEFAULT, texts);
  H5Tclose(memory);
  free(texts);
}

static void put_plain(struct answer *answer, hid_t attribute, const struct type *type, size_t count,
                      const char *what) {
  size_t bytes = count * type->size;
  void *values = allocate(bytes);
  hid_t memory = make_type(type);
  if (H5Aread(attribute, memory, values) < 0) refuse_hdf5("%s cannot be read", what);
  put_text(answer, values, bytes);
  H5Tclose(memory);
  free(values);
}

static herr_t put_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data) {
  (void)info;
  struct iteration *iteration = data;
  char what[512];
  snprintf(what, sizeof what, "attribute '%.200s' of '%.200s'", name, iteration->path);
  if (strlen(name) > largest_name) refuse(problem_limit, "%s has a name of more than %d bytes", what, largest_name);
  iteration->count++;
  if (++attributes_in_file > most_attributes)
    refuse(problem_limit, "the file has more than %d attributes", most_attributes);
  hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  hid_t stored = attribute < 0 ? H5I_INVALID_HID : H5Aget_type(attribute);
  hid_t space = attribute < 0 ? H5I_INVALID_HID : H5Aget_space(attribute);
  if (stored < 0 || space < 0) refuse_hdf5("%s cannot be opened", what);
  struct type type = type_of(stored, what);
  struct shape shape = shape_of(space, what);
  size_t count = element_count(&shape, type.size, what);
  put_text(iteration->answer, name, strlen(name));
  put_type(iteration->answer, &type);
  put_shape(iteration->answer, &shape);
  if (count == 0) {
    put_u32(iteration->answer, 0);
  } else if (type.class == type_variable_string) {
    put_variable_strings(iteration->answer, attribute, &type, space, count, what);
  } else {
    put_plain(iteration->answer, attribute, &type, count, what);
  }
  H5Sclose(space);
  H5Tclose(stored);
  H5Aclose(attribute);
  return 0;
}

void put_attributes(struct answer *answer, hid_t object, const char *path, uint64_t count, bool is_ordered) {
  size_t start = answer->count;
  put_u32(answer, 0);
  if (count == 0) return;
  struct iteration iteration = {answer, path, 0};
  H5_index_t index = is_ordered ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME;
  H5_iter_order_t order = is_ordered ? H5_ITER_INC : H5_ITER_NATIVE;
  if (H5Aiterate2(object, index, order, NULL, put_attribute, &iteration) < 0)
    refuse_hdf5("the attributes of '%s' cannot be read", path);
  set_u32(answer, start, iteration.count);
}

// MARK: Writing

static void write_value(hid_t attribute, hid_t stored, const struct type *type, size_t count, struct request *value,
                        const char *name) {
  herr_t status;
  if (type->class == type_variable_string) {
    char **texts = allocate(count * sizeof *texts);
    for (size_t i = 0; i < count; i++) texts[i] = next_text(value);
    status = H5Awrite(attribute, stored, texts);
    for (size_t i = 0; i < count; i++) free(texts[i]);
    free(texts);
  } else {
    if (value->count - value->position != count * type->size)
      refuse(problem_malformed, "attribute '%s' lacks its value", name);
    status = H5Awrite(attribute, stored, value->bytes + value->position);
  }
  if (status < 0) refuse_hdf5("attribute '%s' cannot be written", name);
}

void create_attributes(struct request *request, hid_t object) {
  for (uint32_t rest = next_u32(request); rest > 0; rest--) {
    char *name = next_text(request);
    struct type type = next_type(request);
    struct shape shape = next_shape(request);
    struct request value = next_part(request);
    hid_t space = make_space(&shape);
    hid_t stored = make_type(&type);
    hid_t attribute = H5Acreate2(object, name, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0) refuse_hdf5("attribute '%s' cannot be made", name);
    size_t count = element_count(&shape, type.size, name);
    if (count > 0) write_value(attribute, stored, &type, count, &value, name);
    H5Aclose(attribute);
    H5Tclose(stored);
    H5Sclose(space);
    free(name);
  }
}
