#include "function_table.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

struct onnx_session {
  const onnx_library *library;
  handle session;
};

struct onnx_run_control {
  const onnx_library *library;
  handle options;
};

struct onnx_value {
  const onnx_library *library;
  handle value;
};

static const char out_of_memory[] = "out of memory";

// MARK: Sessions

static char *make_options(const onnx_library *library, struct onnx_settings settings, handle *result) {
  handle options = NULL;
  char *error = CALL(library, CreateSessionOptions, (handle *), &options);
  if (error) return error;
  error = CALL(library, SetSessionGraphOptimizationLevel, (handle, int), options, settings.optimization_level);
  if (!error) error = CALL(library, SetIntraOpNumThreads, (handle, int), options, settings.threads);
  if (!error) error = CALL(library, SetInterOpNumThreads, (handle, int), options, 1);
  // An arena keeps what the largest run needed and grows by doubling; the daemon wants its memory back after each run.
  if (!error) error = CALL(library, DisableCpuMemArena, (handle), options);
  if (!error) error = CALL(library, DisableMemPattern, (handle), options);
  // Where the graph may be rearranged at all, products of bytes are to be exact on every processor.
  if (!error) {
    error = CALL(library, AddSessionConfigEntry, (handle, const char *, const char *), options,
                 "session.x64quantprecision", "1");
  }
  // Threads that wait by spinning take the processor from other requests.
  if (!error) {
    error = CALL(library, AddSessionConfigEntry, (handle, const char *, const char *), options,
                 "session.intra_op.allow_spinning", "0");
  }
  if (!error && settings.external_data_folder) {
    error = CALL(library, AddSessionConfigEntry, (handle, const char *, const char *), options,
                 "session.model_external_initializers_file_folder_path", settings.external_data_folder);
  }
  if (error) {
    CALL_VOID(library, ReleaseSessionOptions, (handle), options);
    return error;
  }
  *result = options;
  return NULL;
}

static char *make_session(const onnx_library *library, const char *path, const void *bytes, size_t count,
                          struct onnx_settings settings, onnx_session **result) {
  onnx_session *session = calloc(1, sizeof *session);
  if (!session) return strdup(out_of_memory);
  handle options = NULL;
  char *error = make_options(library, settings, &options);
  if (!error) {
    session->library = library;
    error = path ? CALL(library, CreateSession, (handle, const char *, handle, handle *), library->environment, path,
                        options, &session->session)
                 : CALL(library, CreateSessionFromArray, (handle, const void *, size_t, handle, handle *),
                        library->environment, bytes, count, options, &session->session);
    CALL_VOID(library, ReleaseSessionOptions, (handle), options);
  }
  if (error) {
    free(session);
    return error;
  }
  *result = session;
  return NULL;
}

char *onnx_session_from_bytes(const onnx_library *library, const void *bytes, size_t count, struct onnx_settings settings,
                              onnx_session **session) {
  return make_session(library, NULL, bytes, count, settings, session);
}

char *onnx_session_from_file(const onnx_library *library, const char *path, struct onnx_settings settings,
                             onnx_session **session) {
  return make_session(library, path, NULL, 0, settings, session);
}

void onnx_session_free(onnx_session *session) {
  if (!session) return;
  CALL_VOID(session->library, ReleaseSession, (handle), session->session);
  free(session);
  // A model's tensors, and what runs used, lie in the free lists of as many heaps as there were threads.
  malloc_trim(0);
}

// MARK: Types

void onnx_tensor_type_free(struct onnx_tensor_type type) {
  for (size_t i = 0; type.symbols && i < type.rank; i++) free(type.symbols[i]);
  free(type.symbols);
  free(type.dims);
}

static char *read_tensor_info(const onnx_library *library, handle info, struct onnx_tensor_type *result) {
  struct onnx_tensor_type type = {0};
  const char **symbols = NULL;
  char *error = CALL(library, GetTensorElementType, (handle, int *), info, &type.dtype);
  if (!error) error = CALL(library, GetDimensionsCount, (handle, size_t *), info, &type.rank);
  if (!error) {
    type.dims = calloc(type.rank + 1, sizeof *type.dims);
    type.symbols = calloc(type.rank + 1, sizeof *type.symbols);
    symbols = calloc(type.rank + 1, sizeof *symbols);
    if (!type.dims || !type.symbols || !symbols) error = strdup(out_of_memory);
  }
  if (!error) error = CALL(library, GetDimensions, (handle, int64_t *, size_t), info, type.dims, type.rank);
  if (!error) error = CALL(library, GetSymbolicDimensions, (handle, const char **, size_t), info, symbols, type.rank);
  for (size_t i = 0; !error && i < type.rank; i++) {
    type.symbols[i] = strdup(symbols[i] ? symbols[i] : "");
    if (!type.symbols[i]) error = strdup(out_of_memory);
  }
  free(symbols);
  if (error) {
    onnx_tensor_type_free(type);
    return error;
  }
  *result = type;
  return NULL;
}

char *onnx_session_count(const onnx_session *session, enum onnx_side side, size_t *count) {
  return CALL(session->library, side == onnx_inputs ? SessionGetInputCount : SessionGetOutputCount, (handle, size_t *),
              session->session, count);
}

char *onnx_session_describe(const onnx_session *session, enum onnx_side side, size_t index, char **name,
                            struct onnx_tensor_type *type) {
  const onnx_library *library = session->library;
  enum function get_name = side == onnx_inputs ? SessionGetInputName : SessionGetOutputName;
  enum function get_info = side == onnx_inputs ? SessionGetInputTypeInfo : SessionGetOutputTypeInfo;
  char *own_name = NULL;
  char *error = CALL(library, get_name, (handle, size_t, handle, char **), session->session, index, library->allocator,
                     &own_name);
  if (error) return error;
  char *copy = strdup(own_name);
  error = CALL(library, AllocatorFree, (handle, void *), library->allocator, own_name);
  handle info = NULL;
  struct onnx_tensor_type described = {0};
  if (!error && !copy) error = strdup(out_of_memory);
  if (!error) error = CALL(library, get_info, (handle, size_t, handle *), session->session, index, &info);
  if (!error) {
    // Belongs to `info`; NULL for sequences, maps and the like.
    handle tensor = NULL;
    error = CALL(library, CastTypeInfoToTensorInfo, (handle, handle *), info, &tensor);
    if (!error && tensor) error = read_tensor_info(library, tensor, &described);
    CALL_VOID(library, ReleaseTypeInfo, (handle), info);
  }
  if (error) {
    free(copy);
    return error;
  }
  *name = copy;
  *type = described;
  return NULL;
}

// MARK: Runs

char *onnx_run_control_create(const onnx_library *library, onnx_run_control **result) {
  onnx_run_control *control = calloc(1, sizeof *control);
  if (!control) return strdup(out_of_memory);
  control->library = library;
  char *error = CALL(library, CreateRunOptions, (handle *), &control->options);
  if (error) {
    free(control);
    return error;
  }
  *result = control;
  return NULL;
}

void onnx_run_control_stop(onnx_run_control *control) {
  free(CALL(control->library, RunOptionsSetTerminate, (handle), control->options));
}

void onnx_run_control_free(onnx_run_control *control) {
  if (!control) return;
  CALL_VOID(control->library, ReleaseRunOptions, (handle), control->options);
  free(control);
}

char *onnx_session_run(const onnx_session *session, onnx_run_control *control, const struct onnx_input *inputs,
                       size_t input_count, const char *const *output_names, size_t output_count,
                       onnx_value **outputs) {
  const onnx_library *library = session->library;
  const char **names = calloc(input_count + 1, sizeof *names);
  handle *values = calloc(input_count + 1, sizeof *values);
  handle *results = calloc(output_count + 1, sizeof *results);
  char *error = names && values && results ? NULL : strdup(out_of_memory);
  for (size_t i = 0; !error && i < input_count; i++) {
    names[i] = inputs[i].name;
    error = CALL(library, CreateTensorWithDataAsOrtValue,
                 (handle, void *, size_t, const int64_t *, size_t, int, handle *), library->memory,
                 (void *)inputs[i].data, inputs[i].bytes, inputs[i].dims, inputs[i].rank, inputs[i].dtype, &values[i]);
  }
  if (!error) {
    error = CALL(library, Run,
                 (handle, handle, const char *const *, const handle *, size_t, const char *const *, size_t, handle *),
                 session->session, control->options, names, values, input_count, output_names, output_count, results);
  }
  for (size_t i = 0; !error && i < output_count; i++) {
    outputs[i] = calloc(1, sizeof **outputs);
    if (!outputs[i]) {
      error = strdup(out_of_memory);
      while (i-- > 0) free(outputs[i]);
      break;
    }
    *outputs[i] = (onnx_value){library, results[i]};
  }
  for (size_t i = 0; error && results && i < output_count; i++) {
    if (results[i]) CALL_VOID(library, ReleaseValue, (handle), results[i]);
  }
  for (size_t i = 0; values && i < input_count; i++) {
    if (values[i]) CALL_VOID(library, ReleaseValue, (handle), values[i]);
  }
  free(results);
  free(values);
  free(names);
  return error;
}

char *onnx_value_describe(const onnx_value *value, struct onnx_tensor_type *type, const void **data) {
  const onnx_library *library = value->library;
  int is_tensor = 0;
  struct onnx_tensor_type described = {0};
  void *elements = NULL;
  char *error = CALL(library, IsTensor, (handle, int *), value->value, &is_tensor);
  if (!error && is_tensor) {
    handle info = NULL;
    error = CALL(library, GetTensorTypeAndShape, (handle, handle *), value->value, &info);
    if (error) return error;
    error = read_tensor_info(library, info, &described);
    CALL_VOID(library, ReleaseTensorTypeAndShapeInfo, (handle), info);
    // Code 8: strings, which are objects and no bytes.
    if (!error && described.dtype != 8) {
      error = CALL(library, GetTensorMutableData, (handle, void **), value->value, &elements);
      if (error) onnx_tensor_type_free(described);
    }
  }
  if (error) return error;
  *type = described;
  *data = elements;
  return NULL;
}

void onnx_value_free(onnx_value *value) {
  if (!value) return;
  CALL_VOID(value->library, ReleaseValue, (handle), value->value);
  free(value);
}
