// 5x5 convolutions over (channels, height, width, samples), vectorised over the samples.
#pragma once

#include <cstdint>
#include <vector>

namespace native {

// A view of a tensor (channels, height, width, samples).
template <typename Float>
struct Maps {
  Float* data;  // aligned to 64 bytes
  int64_t channels, height, width;
};

constexpr int64_t kernel_size = 5;
constexpr int64_t sample_tile = 16;  // the number of samples is a multiple of it, the number of output maps a multiple of 4 or 6

template <typename Float>
struct ConvolutionKernels {
  const char* instructions;

  // out = weight * in, `in` surrounded by `padding` zeros. weight: (maps, channels, 5, 5).
  void (*forward)(const Maps<const Float>& in, const Float* weight, int64_t padding, const Maps<Float>& out, int64_t samples);

  // Adds the gradient of the weight, for `in` without padding. partial_sums: space for 16 numbers per weight, aligned to 64 bytes.
  void (*weight_gradient)(const Maps<const Float>& in, const Maps<const Float>& dout, Float* gradient, Float* partial_sums,
                          int64_t samples);
};

// The kernels for float or double that this processor supports, fastest first.
template <typename Float>
const std::vector<ConvolutionKernels<Float>>& convolution_kernels();

}  // namespace native
