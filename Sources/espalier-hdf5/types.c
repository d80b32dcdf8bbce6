#include "types.h"

#include <string.h>

static _Noreturn void refuse_type(const char *what, const char *why) {
  refuse(problem_unsupported, "%s has a type of elements that is not read here: %s", what, why);
}

static void require_little_endian(hid_t type, const char *what) {
  H5T_order_t order = H5Tget_order(type);
  if (order == H5T_ORDER_ERROR) refuse_hdf5("%s has a damaged type", what);
  if (order != H5T_ORDER_LE)
    refuse_type(what, "its bytes are not in little-endian order; save it on a little-endian machine");
}

static struct type integer_of(hid_t type, const char *what) {
  struct type result = {.class = type_integer, .size = (uint32_t)H5Tget_size(type)};
  if (result.size != 1 && result.size != 2 && result.size != 4 && result.size != 8)
    refuse_type(what, "integers of unusual size");
  if (result.size > 1) require_little_endian(type, what);
  if (H5Tget_precision(type) != 8 * (size_t)result.size || H5Tget_offset(type) != 0)
    refuse_type(what, "integers that do not fill their bytes");
  result.is_signed = H5Tget_sign(type) == H5T_SGN_2;
  return result;
}

// The library's own description of a type decides, all of it: positions of sign, exponent and mantissa, bias, norm.
static struct type float_of(hid_t type, const char *what) {
  struct type result = {.class = type_float, .size = (uint32_t)H5Tget_size(type)};
  require_little_endian(type, what);
  if (result.size != 2 && result.size != 4 && result.size != 8)
    refuse_type(what, "floating-point numbers of unusual size");
  hid_t expected = make_type(&result);
  if (H5Tequal(type, expected) <= 0) refuse_type(what, "floating-point numbers that are not IEEE 754's");
  H5Tclose(expected);
  return result;
}

static struct type bool_of(hid_t type, const char *what) {
  struct type result = {.class = type_bool, .size = 1};
  hid_t expected = make_type(&result);
  if (H5Tequal(type, expected) <= 0) refuse_type(what, "an enumeration other than NumPy's bool");
  H5Tclose(expected);
  return result;
}

static struct type opaque_of(hid_t type, const char *what) {
  struct type result = {.class = type_opaque, .size = (uint32_t)H5Tget_size(type)};
  char *tag = H5Tget_tag(type);
  if (!tag) refuse_hdf5("%s has a damaged type", what);
  if (strlen(tag) >= sizeof result.tag) refuse_type(what, "opaque elements with a long tag");
  strcpy(result.tag, tag);
  H5free_memory(tag);
  if (result.size == 0 || result.size > 1 << 16) refuse_type(what, "opaque elements of unusual size");
  return result;
}

static struct type string_of(hid_t type, const char *what) {
  htri_t is_variable = H5Tis_variable_str(type);
  H5T_str_t padding = H5Tget_strpad(type);
  H5T_cset_t characters = H5Tget_cset(type);
  if (is_variable < 0 || padding < H5T_STR_NULLTERM || padding > H5T_STR_SPACEPAD || characters < H5T_CSET_ASCII ||
      characters > H5T_CSET_UTF8)
    refuse(problem_malformed, "%s has a damaged type of strings", what);
  return (struct type){
      .class = is_variable ? type_variable_string : type_fixed_string,
      .size = is_variable ? 0 : (uint32_t)H5Tget_size(type),
      .padding = (uint8_t)padding,
      .character_set = (uint8_t)characters,
  };
}

struct type type_of(hid_t type, const char *what) {
  if (H5Tcommitted(type) > 0) refuse_type(what, "a named type, which is an object of its own");
  switch (H5Tget_class(type)) {
    case H5T_INTEGER: return integer_of(type, what);
    case H5T_FLOAT: return float_of(type, what);
    case H5T_ENUM: return bool_of(type, what);
    case H5T_OPAQUE: return opaque_of(type, what);
    case H5T_STRING: return string_of(type, what);
    case H5T_REFERENCE: refuse_type(what, "references to other objects");
    case H5T_COMPOUND: refuse_type(what, "records of several fields");
    case H5T_VLEN: refuse_type(what, "lists of variable length");
    case H5T_ARRAY: refuse_type(what, "arrays as elements");
    case H5T_BITFIELD: refuse_type(what, "bit fields");
    case H5T_TIME: refuse_type(what, "times");
    default: refuse_hdf5("%s has a damaged type", what);
  }
}

static hid_t made(hid_t type) {
  if (type < 0) refuse_hdf5("a type of elements cannot be made");
  return type;
}

static hid_t make_integer(const struct type *type) {
  switch (type->size) {
    case 1: return type->is_signed ? H5T_STD_I8LE : H5T_STD_U8LE;
    case 2: return type->is_signed ? H5T_STD_I16LE : H5T_STD_U16LE;
    case 4: return type->is_signed ? H5T_STD_I32LE : H5T_STD_U32LE;
    case 8: return type->is_signed ? H5T_STD_I64LE : H5T_STD_U64LE;
    default: refuse(problem_malformed, "integers of %u bytes cannot be written", type->size);
  }
}

// HDF5 1.10 has no half precision of its own. This is h5py's recipe: sizes go down from single precision last.
static hid_t make_half(void) {
  hid_t type = made(H5Tcopy(H5T_IEEE_F32LE));
  if (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, 15) < 0)
    refuse_hdf5("the type of half precision cannot be made");
  return type;
}

static hid_t make_bool(void) {
  hid_t type = made(H5Tenum_create(H5T_STD_I8LE));
  for (int8_t value = 0; value < 2; value++) {
    if (H5Tenum_insert(type, value ? "TRUE" : "FALSE", &value) < 0) refuse_hdf5("the type of booleans cannot be made");
  }
  return type;
}

static hid_t make_string(const struct type *type) {
  hid_t result = made(H5Tcopy(H5T_C_S1));
  size_t size = type->class == type_variable_string ? H5T_VARIABLE : type->size;
  if (H5Tset_size(result, size) < 0 || H5Tset_strpad(result, (H5T_str_t)type->padding) < 0 ||
      H5Tset_cset(result, (H5T_cset_t)type->character_set) < 0)
    refuse_hdf5("a type of strings cannot be made");
  return result;
}

hid_t make_type(const struct type *type) {
  switch (type->class) {
    case type_integer: return made(H5Tcopy(make_integer(type)));
    case type_float:
      if (type->size == 2) return make_half();
      if (type->size == 4) return made(H5Tcopy(H5T_IEEE_F32LE));
      if (type->size == 8) return made(H5Tcopy(H5T_IEEE_F64LE));
      refuse(problem_malformed, "floating-point numbers of %u bytes cannot be written", type->size);
    case type_bool: return make_bool();
    case type_opaque: {
      hid_t result = made(H5Tcreate(H5T_OPAQUE, type->size));
      if (H5Tset_tag(result, type->tag) < 0) refuse_hdf5("an opaque type cannot be made");
      return result;
    }
    case type_fixed_string:
    case type_variable_string: return make_string(type);
  }
  refuse(problem_malformed, "type %d cannot be written", (int)type->class);
}

void put_type(struct answer *answer, const struct type *type) {
  put_u8(answer, (uint8_t)type->class);
  put_u32(answer, type->size);
  put_u8(answer, type->is_signed);
  put_u8(answer, type->padding);
  put_u8(answer, type->character_set);
  put_text(answer, type->tag, strlen(type->tag));
}
