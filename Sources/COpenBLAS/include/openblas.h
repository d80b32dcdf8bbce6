// OpenBLAS, loaded when it is first needed: linked in, its start-up (threads, buffers, 35 MB to map) would be paid by
// every run of the program, also by those that multiply no matrix.
#pragma once

// The functions used, by their Fortran names. Matrices are column-major; numbers and sizes go by reference.
typedef struct {
  // C = alpha * A * A' + beta * C, or A' * A; one triangle of C.
  void (*dsyrk)(const char *uplo, const char *trans, const int *n, const int *k, const double *alpha, const double *a,
                const int *lda, const double *beta, double *c, const int *ldc);
  // The same in single precision.
  void (*ssyrk)(const char *uplo, const char *trans, const int *n, const int *k, const float *alpha, const float *a,
                const int *lda, const float *beta, float *c, const int *ldc);
  // C = alpha * op(A) * op(B) + beta * C.
  void (*dgemm)(const char *transa, const char *transb, const int *m, const int *n, const int *k, const double *alpha,
                const double *a, const int *lda, const double *b, const int *ldb, const double *beta, double *c,
                const int *ldc);
  void (*sgemm)(const char *transa, const char *transb, const int *m, const int *n, const int *k, const float *alpha,
                const float *a, const int *lda, const float *b, const int *ldb, const float *beta, float *c,
                const int *ldc);
  // B = alpha * op(A) * B, or alpha * B * op(A), A triangular.
  void (*dtrmm)(const char *side, const char *uplo, const char *transa, const char *diag, const int *m, const int *n,
                const double *alpha, const double *a, const int *lda, double *b, const int *ldb);
  // Solves op(A) * X = alpha * B, or X * op(A) = alpha * B, for X in place of B, A triangular.
  void (*dtrsm)(const char *side, const char *uplo, const char *transa, const char *diag, const int *m, const int *n,
                const double *alpha, const double *a, const int *lda, double *b, const int *ldb);
  // Cholesky: A = L * L', or U' * U, in place of one triangle of A.
  void (*dpotrf)(const char *uplo, const int *n, double *a, const int *lda, int *info);
  // A = Q * R: R on and above the diagonal of A, Q as reflectors below it and in tau.
  void (*dgeqrf)(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork,
                 int *info);
  // The first n columns of the Q that dgeqrf left in A.
  void (*dorgqr)(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau, double *work,
                 const int *lwork, int *info);
  // Eigenvalues (ascending), and eigenvectors if jobz is V, of a symmetric matrix.
  void (*dsyevd)(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
                 const int *lwork, int *iwork, const int *liwork, int *info);
  // The il-th to iu-th smallest eigenvalues if range is I, and their vectors if jobz is V; A is destroyed.
  void (*dsyevr)(const char *jobz, const char *range, const char *uplo, const int *n, double *a, const int *lda,
                 const double *vl, const double *vu, const int *il, const int *iu, const double *abstol, int *m,
                 double *w, double *z, const int *ldz, int *isuppz, double *work, const int *lwork, int *iwork,
                 const int *liwork, int *info);
  // A = Q * T * Q': the tridiagonal T in d and e, Q as reflectors in one triangle of A and in tau.
  void (*dsytrd)(const char *uplo, const int *n, double *a, const int *lda, double *d, double *e, double *tau,
                 double *work, const int *lwork, int *info);
  void (*ssytrd)(const char *uplo, const int *n, float *a, const int *lda, float *d, float *e, float *tau, float *work,
                 const int *lwork, int *info);
  // Eigenvalues, ascending, of a tridiagonal matrix, in place of d; e is destroyed.
  void (*dsterf)(const int *n, double *d, double *e, int *info);
  // The same with eigenvectors in z, if compz is I.
  void (*dstedc)(const char *compz, const int *n, double *d, double *e, double *z, const int *ldz, double *work,
                 const int *lwork, int *iwork, const int *liwork, int *info);
  void (*sstedc)(const char *compz, const int *n, float *d, float *e, float *z, const int *ldz, float *work,
                 const int *lwork, int *iwork, const int *liwork, int *info);
  // C = op(Q) * C, or C * op(Q), for the Q that dsytrd left in A and tau.
  void (*dormtr)(const char *side, const char *uplo, const char *trans, const int *m, const int *n, const double *a,
                 const int *lda, const double *tau, double *c, const int *ldc, double *work, const int *lwork,
                 int *info);
  void (*sormtr)(const char *side, const char *uplo, const char *trans, const int *m, const int *n, const float *a,
                 const int *lda, const float *tau, float *c, const int *ldc, float *work, const int *lwork, int *info);
  // A = U * diag(s) * VT, s descending.
  void (*dgesdd)(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
                 const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info);
} openblas_functions;

// The functions, or NULL if the library cannot be loaded. Loads it on the first call, for one thread per call: callers
// run side by side, and results must not depend on how many processors there are.
const openblas_functions *openblas_load(void);

// Why it cannot be loaded; valid after openblas_load has returned NULL.
const char *openblas_load_error(void);
