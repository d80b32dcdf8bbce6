#define _GNU_SOURCE
#include "function_table.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct api_base {
  void *const *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
};

char *onnx_status_message(const onnx_library *library, handle status) {
  if (!status) return NULL;
  const char *text = ((const char *(*)(handle))library->table[GetErrorMessage])(status);
  char *message = strdup(text && *text ? text : "an error without a message");
  CALL_VOID(library, ReleaseStatus, (handle), status);
  return message;
}

// A library that was opened stays: its threads and thread-local data outlive every handle.
char *onnx_library_open(const char *path, onnx_library **result, bool *is_too_old) {
  *is_too_old = false;
  void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!object) {
    const char *reason = dlerror();
    return strdup(reason ? reason : "the dynamic linker gives no reason");
  }
  const struct api_base *(*get_base)(void) = (const struct api_base *(*)(void))dlsym(object, "OrtGetApiBase");
  const struct api_base *base = get_base ? get_base() : NULL;
  if (!base) return strdup("it has no function OrtGetApiBase");
  onnx_library *library = calloc(1, sizeof *library);
  if (!library) return strdup("out of memory");
  library->version = base->GetVersionString();
  // Asked for a version it does not have, the library complains on standard error; so its name is read first.
  unsigned major = 0, minor = 0;
  *is_too_old = sscanf(library->version, "%u.%u", &major, &minor) == 2 && major <= 1 && minor < onnx_minimum_minor_version;
  library->table = *is_too_old ? NULL : base->GetApi(onnx_minimum_minor_version);
  if (!library->table) {
    char *message = NULL;
    if (asprintf(&message, "it is version %s", library->version) < 0) message = NULL;
    free(library);
    return message ? message : strdup("out of memory");
  }
  // What goes wrong is returned with its message; nothing is to be logged beside that (severity 4: fatal).
  char *error = CALL(library, CreateEnv, (int, const char *, handle *), 4, "espalier", &library->environment);
  // 0: memory of the device's own allocator; 0: the default kind.
  if (!error) error = CALL(library, CreateCpuMemoryInfo, (int, int, handle *), 0, 0, &library->memory);
  if (!error) error = CALL(library, GetAllocatorWithDefaultOptions, (handle *), &library->allocator);
  if (error) {
    free(library);
    return error;
  }
  *result = library;
  return NULL;
}

const char *onnx_library_version(const onnx_library *library) { return library->version; }
