// The BLAS that Paddle brings along and has loaded: C = A B + beta C, row after row, op = transposed where asked.
#pragma once

extern "C" {
void cblas_sgemm(int order, int op_a, int op_b, int m, int n, int k, float alpha, const float* a, int lda,
                 const float* b, int ldb, float beta, float* c, int ldc);
void cblas_dgemm(int order, int op_a, int op_b, int m, int n, int k, double alpha, const double* a, int lda,
                 const double* b, int ldb, double beta, double* c, int ldc);
}

enum Op { as_it_is = 111, transposed = 112 };

// C [m, n], inner dimension k. Called by each thread for itself.
inline void gemm(Op op_a, Op op_b, int m, int n, int k, const float* a, int lda, const float* b, int ldb, float beta,
                 float* c, int ldc) {
    if (m && n) cblas_sgemm(101, op_a, op_b, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}
inline void gemm(Op op_a, Op op_b, int m, int n, int k, const double* a, int lda, const double* b, int ldb,
                 double beta, double* c, int ldc) {
    if (m && n) cblas_dgemm(101, op_a, op_b, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}
