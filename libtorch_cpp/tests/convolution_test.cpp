#include "convolution.h"

#include "fixtures.h"

namespace {

Maps<const float> read(const at::Tensor& x) { return {x.const_data_ptr<float>(), x.size(0), x.size(1), x.size(2)}; }

Maps<float> write(const at::Tensor& x) { return {x.mutable_data_ptr<float>(), x.size(0), x.size(1), x.size(2)}; }

at::Tensor samples_first(const at::Tensor& x) { return x.permute({3, 0, 1, 2}).contiguous(); }

}  // namespace

TEST_CASE("every set of kernels that this processor runs convolves as libtorch does") {
  at::manual_seed(5);
  for (const ConvolutionKernels& kernels : convolution_kernels()) {
    for (const auto& [channels, maps, size, padding, samples] :
         {std::tuple{1, 6, 32, 0, 16}, {6, 16, 14, 0, 32}, {16, 6, 10, 4, 48}, {3, 12, 7, 1, 16}}) {
      CAPTURE(kernels.instructions);
      CAPTURE(maps);
      const int64_t out_size = size + 2 * padding - 4;
      const at::Tensor in = at::randn({channels, size, size, samples}), weight = at::randn({maps, channels, 5, 5});
      const at::Tensor out = at::full({maps, out_size, out_size, samples}, NAN);
      kernels.forward(read(in), weight.const_data_ptr<float>(), padding, write(out), samples);
      const at::Tensor plain = samples_first(in).to(at::kDouble);
      CHECK(largest_difference(samples_first(out), at::conv2d(plain, weight.to(at::kDouble), {}, 1, padding)) < 1e-4);
      if (padding > 0) continue;

      const at::Tensor dout = at::randn_like(out), start = at::randn_like(weight), gradient = start.clone();
      const at::Tensor partial_sums = at::full({weight.numel(), 16}, NAN);
      kernels.weight_gradient(read(in), read(dout), gradient.mutable_data_ptr<float>(), partial_sums.mutable_data_ptr<float>(), samples);
      const at::Tensor variable = weight.to(at::kDouble).set_requires_grad(true);
      at::conv2d(plain, variable).backward(samples_first(dout).to(at::kDouble));
      CHECK(largest_difference(gradient - start, variable.grad()) < 1e-3);
    }
  }
}
