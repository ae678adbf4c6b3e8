#include "convolution.h"

#include <algorithm>

namespace native {

namespace {

constexpr int64_t taps = kernel_size * kernel_size;
constexpr int64_t map_tile = 2;  // the number of maps whose weight gradients fit into registers

// GCC's and Clang's vectors (https://gcc.gnu.org/onlinedocs/gcc/Vector-Extensions.html): arithmetic is lane by lane.
template <typename Float, int lanes>
using Vector __attribute__((vector_size(lanes * sizeof(Float)), may_alias)) = Float;

// Sums each output position of `maps` maps in registers, for vectors × lanes samples at a time. Each loaded vector of samples is used for
// all maps, and each loaded weight for all samples.
template <typename Float, int lanes, int maps, int vectors>
[[gnu::always_inline]] inline void forward_tile(const Maps<const Float>& in, const Float* weight, int64_t padding, const Maps<Float>& out,
                                                int64_t samples) {
  using V = Vector<Float, lanes>;
  const int64_t weights_a_map = in.channels * taps;
  for (int64_t map = 0; map < out.channels; map += maps) {
    for (int64_t sample = 0; sample < samples; sample += lanes * vectors) {
      for (int64_t y = 0; y < out.height; ++y) {
        const int64_t first_row = std::max<int64_t>(0, padding - y), last_row = std::min(kernel_size, in.height + padding - y);
        for (int64_t x = 0; x < out.width; ++x) {
          const int64_t first_column = std::max<int64_t>(0, padding - x), last_column = std::min(kernel_size, in.width + padding - x);
          V sum[maps][vectors] = {};
          for (int64_t channel = 0; channel < in.channels; ++channel) {
            for (int64_t i = first_row; i < last_row; ++i) {
              const Float* row = in.data + ((channel * in.height + y + i - padding) * in.width + x - padding) * samples + sample;
              const Float* w = weight + map * weights_a_map + channel * taps + i * kernel_size;
              for (int64_t j = first_column; j < last_column; ++j) {
                const V* pixels = reinterpret_cast<const V*>(row + j * samples);
                for (int m = 0; m < maps; ++m) {
                  for (int v = 0; v < vectors; ++v) sum[m][v] += w[m * weights_a_map + j] * pixels[v];
                }
              }
            }
          }
          for (int m = 0; m < maps; ++m) {
            V* target = reinterpret_cast<V*>(out.data + (((map + m) * out.height + y) * out.width + x) * samples + sample);
            for (int v = 0; v < vectors; ++v) target[v] = sum[m][v];
          }
        }
      }
    }
  }
}

template <typename Float, int lanes, int maps>
[[gnu::always_inline]] inline void forward_maps(const Maps<const Float>& in, const Float* weight, int64_t padding, const Maps<Float>& out,
                                                int64_t samples) {
  if (samples % (2 * lanes) == 0) {
    forward_tile<Float, lanes, maps, 2>(in, weight, padding, out, samples);
  } else {
    forward_tile<Float, lanes, maps, 1>(in, weight, padding, out, samples);
  }
}

// Processes as many maps at a time as fit into registers.
template <typename Float, int lanes>
[[gnu::always_inline]] inline void forward(const Maps<const Float>& in, const Float* weight, int64_t padding, const Maps<Float>& out,
                                           int64_t samples) {
  if (out.channels % 6 == 0) {
    forward_maps<Float, lanes, 6>(in, weight, padding, out, samples);
  } else {
    forward_maps<Float, lanes, 4>(in, weight, padding, out, samples);
  }
}

// Processes a row of output positions at a time: the rows of input and output stay in the L1 cache, the sums of a kernel row in registers.
template <typename Float, int lanes>
[[gnu::always_inline]] inline void weight_gradient(const Maps<const Float>& in, const Maps<const Float>& dout, Float* gradient,
                                                   Float* partial_sums, int64_t samples) {
  using V = Vector<Float, lanes>;
  const int64_t weights_a_map = in.channels * taps, weights = dout.channels * weights_a_map, row = dout.width * samples;
  V* sums = reinterpret_cast<V*>(partial_sums);
  std::fill_n(partial_sums, weights * lanes, Float(0));
  for (int64_t y = 0; y < dout.height; ++y) {
    for (int64_t map = 0; map < dout.channels; map += map_tile) {
      const Float* d = dout.data + (map * dout.height + y) * row;
      for (int64_t channel = 0; channel < in.channels; ++channel) {
        for (int64_t i = 0; i < kernel_size; ++i) {
          const Float* pixels = in.data + (channel * in.height + y + i) * in.width * samples;
          V sum[map_tile][kernel_size] = {};
          for (int64_t k = 0; k < row; k += lanes) {
            for (int m = 0; m < map_tile; ++m) {
              const V dk = *reinterpret_cast<const V*>(d + m * dout.height * row + k);
              for (int j = 0; j < kernel_size; ++j) sum[m][j] += dk * *reinterpret_cast<const V*>(pixels + k + j * samples);
            }
          }
          V* target = sums + map * weights_a_map + channel * taps + i * kernel_size;
          for (int m = 0; m < map_tile; ++m) {
            for (int j = 0; j < kernel_size; ++j) target[m * weights_a_map + j] += sum[m][j];
          }
        }
      }
    }
  }
  for (int64_t k = 0; k < weights; ++k) {
    for (int lane = 0; lane < lanes; ++lane) gradient[k] += sums[k][lane];
  }
}

// The same code for each width of vector registers; the width is chosen at run time by the processor's features.
#define KERNELS(name, bytes, target)                                                                                                     \
  template <typename Float>                                                                                                              \
  struct name {                                                                                                                          \
    target static void forward(const Maps<const Float>& in, const Float* weight, int64_t padding, const Maps<Float>& out,                \
                               int64_t samples) {                                                                                        \
      native::forward<Float, bytes / sizeof(Float)>(in, weight, padding, out, samples);                                                  \
    }                                                                                                                                    \
    target static void weight_gradient(const Maps<const Float>& in, const Maps<const Float>& dout, Float* gradient, Float* partial_sums, \
                                       int64_t samples) {                                                                                \
      native::weight_gradient<Float, bytes / sizeof(Float)>(in, dout, gradient, partial_sums, samples);                                  \
    }                                                                                                                                    \
  };

KERNELS(Plain, 16, )  // SSE2, or NEON on ARM
#ifdef __x86_64__
KERNELS(Avx2, 32, [[gnu::target("avx2,fma")]])
KERNELS(Avx512, 64, [[gnu::target("avx512f,fma")]])
#endif

template <template <typename> typename Kernels, typename Float>
ConvolutionKernels<Float> named(const char* instructions) {
  return {instructions, Kernels<Float>::forward, Kernels<Float>::weight_gradient};
}

}  // namespace

template <typename Float>
const std::vector<ConvolutionKernels<Float>>& convolution_kernels() {
  static const std::vector<ConvolutionKernels<Float>> supported = [] {
    std::vector<ConvolutionKernels<Float>> kernels;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) kernels.push_back(named<Avx512, Float>("AVX-512"));
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kernels.push_back(named<Avx2, Float>("AVX2"));
#endif
    kernels.push_back(named<Plain, Float>("128 bits"));
    return kernels;
  }();
  return supported;
}

template const std::vector<ConvolutionKernels<float>>& convolution_kernels();
template const std::vector<ConvolutionKernels<double>>& convolution_kernels();

}  // namespace native
