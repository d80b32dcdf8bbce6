// ONNX Runtime's C API as far as this project uses it, bound when it is first needed: the library comes from the user's
// Python package and not from the build. Every pointer into it stays behind the opaque types below.
//
// A function that can fail returns NULL, or a message that the caller frees with free(); its results are set only in the
// first case. Everything is thread-safe except where it says otherwise.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct onnx_library onnx_library;
typedef struct onnx_session onnx_session;
typedef struct onnx_run_control onnx_run_control;
typedef struct onnx_value onnx_value;

/// The oldest ONNX Runtime that has all that is used here is 1.<this>.
enum { onnx_minimum_minor_version = 16 };

/// Loads the shared library at `path`, for good. Sets `*is_too_old` where that is why it failed.
char *onnx_library_open(const char *path, onnx_library **library, bool *is_too_old);

/// "1.32.0"; lives as long as the process.
const char *onnx_library_version(const onnx_library *library);

struct onnx_settings {
  /// 0 none, 1 basic, 2 extended, 99 all.
  int optimization_level;
  int threads;
  /// Where the files of external tensors are, for a model that comes as bytes; NULL without any.
  const char *external_data_folder;
};

/// The bytes need not outlive the call. At most 2 GB, as of any single protobuf message.
char *onnx_session_from_bytes(const onnx_library *library, const void *bytes, size_t count, struct onnx_settings settings,
                              onnx_session **session);
char *onnx_session_from_file(const onnx_library *library, const char *path, struct onnx_settings settings,
                             onnx_session **session);
void onnx_session_free(onnx_session *session);

/// Element type and shape. `dims[i]` is -1 where the model leaves it open; `symbols[i]` is then its name, or "".
struct onnx_tensor_type {
  /// The code of TensorProto.DataType; 0 for what is no dense tensor.
  int dtype;
  size_t rank;
  int64_t *dims;
  char **symbols;
};
void onnx_tensor_type_free(struct onnx_tensor_type type);

enum onnx_side { onnx_inputs, onnx_outputs };
char *onnx_session_count(const onnx_session *session, enum onnx_side side, size_t *count);
/// `*name` is the caller's to free. Where the model says nothing of the rank, it is 0.
char *onnx_session_describe(const onnx_session *session, enum onnx_side side, size_t index, char **name,
                            struct onnx_tensor_type *type);

/// One run's stop switch.
char *onnx_run_control_create(const onnx_library *library, onnx_run_control **control);
/// Makes the run end with an error before its next node.
void onnx_run_control_stop(onnx_run_control *control);
void onnx_run_control_free(onnx_run_control *control);

struct onnx_input {
  const char *name;
  int dtype;
  size_t rank;
  const int64_t *dims;
  /// Readable until the run is over; never written to.
  const void *data;
  size_t bytes;
};
/// `outputs` has room for `output_count` values, which the caller frees.
char *onnx_session_run(const onnx_session *session, onnx_run_control *control, const struct onnx_input *inputs,
                       size_t input_count, const char *const *output_names, size_t output_count, onnx_value **outputs);

/// `*data` is NULL for what is no dense tensor of numbers, or has no elements; it lives as long as the value.
char *onnx_value_describe(const onnx_value *value, struct onnx_tensor_type *type, const void **data);
void onnx_value_free(onnx_value *value);
