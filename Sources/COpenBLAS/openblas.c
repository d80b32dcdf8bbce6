#include "openblas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static openblas_functions functions;
static const openblas_functions *loaded;
static char load_error[512];

static void *symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) snprintf(load_error, sizeof load_error, "libopenblas.so.0 has no function %s", name);
  return found;
}

static void load(void) {
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    const char *message = dlerror();
    snprintf(load_error, sizeof load_error, "%s", message != NULL ? message : "libopenblas.so.0 cannot be loaded");
    return;
  }
  void (*set_num_threads)(int) = (void (*)(int))symbol(library, "openblas_set_num_threads");
  *(void **)&functions.dsyrk = symbol(library, "dsyrk_");
  *(void **)&functions.ssyrk = symbol(library, "ssyrk_");
  *(void **)&functions.dgemm = symbol(library, "dgemm_");
  *(void **)&functions.sgemm = symbol(library, "sgemm_");
  *(void **)&functions.dtrmm = symbol(library, "dtrmm_");
  *(void **)&functions.dtrsm = symbol(library, "dtrsm_");
  *(void **)&functions.dpotrf = symbol(library, "dpotrf_");
  *(void **)&functions.dgeqrf = symbol(library, "dgeqrf_");
  *(void **)&functions.dorgqr = symbol(library, "dorgqr_");
  *(void **)&functions.dsyevr = symbol(library, "dsyevr_");
  *(void **)&functions.dsyevd = symbol(library, "dsyevd_");
  *(void **)&functions.dsytrd = symbol(library, "dsytrd_");
  *(void **)&functions.ssytrd = symbol(library, "ssytrd_");
  *(void **)&functions.dsterf = symbol(library, "dsterf_");
  *(void **)&functions.dstedc = symbol(library, "dstedc_");
  *(void **)&functions.sstedc = symbol(library, "sstedc_");
  *(void **)&functions.dormtr = symbol(library, "dormtr_");
  *(void **)&functions.sormtr = symbol(library, "sormtr_");
  *(void **)&functions.dgesdd = symbol(library, "dgesdd_");
  if (load_error[0] != '\0') return;
  set_num_threads(1);
  loaded = &functions;
}

const openblas_functions *openblas_load(void) {
  pthread_once(&once, load);
  return loaded;
}

const char *openblas_load_error(void) { return load_error; }
