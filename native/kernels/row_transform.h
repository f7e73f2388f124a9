// Winograd's method along the rows of real convolutions: 4 neighbouring results of a row take 6 or 7 products for each
// input channel and row of the kernel, instead of 12 or 16.
//
// A row with step 2 is two interleaved rows (phases) with step 1, each with every other tap; they are summed
// like channels. With r taps in a phase and n = 4 + r - 1 points, the results y of a tile from its inputs x are,
// for each channel and phase,
//   y = A ((G w) * (B x)),   A[o][j] = p_j^o,   G[j][t] = p_j^t / prod_{k != j} (p_j - p_k),
//   B[j][i] = the coefficient of z^i in prod_{k != j} (z - p_k),
// where the last point is infinity: A[3][n-1] = G[n-1][r-1] = 1, B[n-1] = coefficients of prod_k (z - p_k). The
// products are summed over channels and kernel rows before A. (S. Winograd, Arithmetic Complexity of Computations,
// 1980.) The points are 0, 1, -1, 1/2, -2, -1/2; with them the rounding error is about twice that of the plain sum.
//
// A square kernel with step 2 on few channels, as the first layer of ResNet-18 has, is transformed along rows and
// columns: 4 rows of results, a band, come from the transformed rows by the same matrices. For a 7x7 kernel that is
// less than half of the products again, at about twice the rounding error again.
#pragma once

#include <vector>

#include "kernels/kernels.h"

namespace biper {

// Whether the method can compute a convolution, and has enough work for each point to be faster than the plain sum.
bool row_transform_fits(const Geometry& geometry);

// The matrices A and B for a convolution that fits.
RowTransform make_row_transform(const Geometry& geometry);

// Weights (out, in, ky, kx), multiplied by G, as [point][block][ky][phase and channel][16]; those of bands, multiplied
// by G along both axes, as [point of columns][point of rows][block][phase of rows][phase and channel][16].
std::vector<float> transform_weights(const Geometry& geometry, const RowTransform& transform, const float* weights);

}  // namespace biper
