// The function table that the library hands out: an array of function pointers to which each version appends, so that a
// function is known for good by its position. The names are upstream's (onnxruntime_c_api.h, struct OrtApi).
#pragma once

#include "onnx_runtime.h"

/// Any object of the library's.
typedef void *handle;

enum function {
  GetErrorMessage = 2,
  CreateEnv = 3,
  CreateSession = 7,
  CreateSessionFromArray = 8,
  Run = 9,
  CreateSessionOptions = 10,
  DisableMemPattern = 17,
  DisableCpuMemArena = 19,
  SetSessionGraphOptimizationLevel = 23,
  SetIntraOpNumThreads = 24,
  SetInterOpNumThreads = 25,
  SessionGetInputCount = 30,
  SessionGetOutputCount = 31,
  SessionGetInputTypeInfo = 33,
  SessionGetOutputTypeInfo = 34,
  SessionGetInputName = 36,
  SessionGetOutputName = 37,
  CreateRunOptions = 39,
  RunOptionsSetTerminate = 46,
  CreateTensorWithDataAsOrtValue = 49,
  IsTensor = 50,
  GetTensorMutableData = 51,
  CastTypeInfoToTensorInfo = 55,
  GetTensorElementType = 60,
  GetDimensionsCount = 61,
  GetDimensions = 62,
  GetSymbolicDimensions = 63,
  GetTensorTypeAndShape = 65,
  CreateCpuMemoryInfo = 69,
  AllocatorFree = 76,
  GetAllocatorWithDefaultOptions = 78,
  ReleaseStatus = 93,
  ReleaseSession = 95,
  ReleaseValue = 96,
  ReleaseRunOptions = 97,
  ReleaseTypeInfo = 98,
  ReleaseTensorTypeAndShapeInfo = 99,
  ReleaseSessionOptions = 100,
  AddSessionConfigEntry = 130,
};

struct onnx_library {
  void *const *table;
  const char *version;
  handle environment;
  /// The default allocator's memory, in which callers' tensors are said to be.
  handle memory;
  handle allocator;
};

/// A function that returns nothing.
#define CALL_VOID(library, name, types, ...) (((void(*) types)(library)->table[name])(__VA_ARGS__))
/// A function that returns a status, as the message of its error or NULL.
#define CALL(library, name, types, ...) \
  onnx_status_message(library, ((handle(*) types)(library)->table[name])(__VA_ARGS__))

/// Takes the status, which is NULL for success.
char *onnx_status_message(const onnx_library *library, handle status);
