#include "native/convolution.h"

#include "tests/fixtures.h"

using native::ConvolutionKernels, native::Maps, native::convolution_kernels;

namespace {

template <typename Float>
Maps<Float> maps_of(const at::Tensor& x) {
  return {x.mutable_data_ptr<std::remove_const_t<Float>>(), x.size(0), x.size(1), x.size(2)};
}

at::Tensor samples_first(const at::Tensor& x) { return x.permute({3, 0, 1, 2}).contiguous(); }

}  // namespace

TEST_CASE_TEMPLATE("every set of kernels that this processor runs convolves as libtorch does", Float, float, double) {
  at::manual_seed(5);
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<Float>::value);
  for (const ConvolutionKernels<Float>& kernels : convolution_kernels<Float>()) {
    for (const auto& [channels, maps, size, padding, samples] :
         {std::tuple{1, 6, 32, 0, 16}, {6, 16, 14, 0, 32}, {16, 6, 10, 4, 48}, {3, 12, 7, 1, 16}}) {
      CAPTURE(kernels.instructions);
      CAPTURE(maps);
      const int64_t out_size = size + 2 * padding - 4;
      const at::Tensor in = at::randn({channels, size, size, samples}, options), weight = at::randn({maps, channels, 5, 5}, options);
      const at::Tensor out = at::full({maps, out_size, out_size, samples}, NAN, options);
      kernels.forward(maps_of<const Float>(in), weight.const_data_ptr<Float>(), padding, maps_of<Float>(out), samples);
      const at::Tensor plain = samples_first(in).to(at::kDouble);
      CHECK(largest_difference(samples_first(out), at::conv2d(plain, weight.to(at::kDouble), {}, 1, padding)) <
            (sizeof(Float) == 4 ? 1e-4 : 1e-12));
      if (padding > 0) continue;

      const at::Tensor dout = at::randn_like(out), start = at::randn_like(weight), gradient = start.clone();
      const at::Tensor partial_sums = at::full({weight.numel(), 16}, NAN, options);
      kernels.weight_gradient(maps_of<const Float>(in), maps_of<const Float>(dout), gradient.mutable_data_ptr<Float>(),
                              partial_sums.mutable_data_ptr<Float>(), samples);
      const at::Tensor variable = weight.to(at::kDouble, false, /*copy=*/true).set_requires_grad(true);
      at::conv2d(plain, variable).backward(samples_first(dout).to(at::kDouble));
      CHECK(largest_difference(gradient - start, variable.grad()) < (sizeof(Float) == 4 ? 1e-3 : 1e-11));
    }
  }
}
