#include "lenet5.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include "convolution.h"
#include "src/conditions.h"

namespace native {

namespace {

// (channels, height, width, samples) as channels-last images whose channels are the samples, the layout that libtorch pools fastest.
at::Tensor samples_as_channels(const at::Tensor& x) { return x.permute({0, 3, 1, 2}); }

template <typename Float>
Maps<const Float> read(const at::Tensor& x) {
  return {x.const_data_ptr<Float>(), x.size(0), x.size(1), x.size(2)};
}

// out = weight * in, `in` surrounded by `padding` zeros.
void convolve(const at::Tensor& in, const at::Tensor& weight, int64_t padding, const at::Tensor& out) {
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "convolve", [&] {
    const Maps<scalar_t> target = {out.mutable_data_ptr<scalar_t>(), out.size(0), out.size(1), out.size(2)};
    convolution_kernels<scalar_t>().front().forward(read<scalar_t>(in), weight.const_data_ptr<scalar_t>(), padding, target, in.size(3));
  });
}

// Adds the gradient of the weight. partial_sums: (number of weights, 16).
void add_weight_gradient(const at::Tensor& in, const at::Tensor& dout, const at::Tensor& gradient, const at::Tensor& partial_sums) {
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "add_weight_gradient", [&] {
    convolution_kernels<scalar_t>().front().weight_gradient(read<scalar_t>(in), read<scalar_t>(dout), gradient.mutable_data_ptr<scalar_t>(),
                                                            partial_sums.mutable_data_ptr<scalar_t>(), in.size(3));
  });
}

at::Tensor rows(const at::Tensor& x) { return x.view({x.size(0), -1}); }

at::Tensor column(const at::Tensor& bias) { return bias.unsqueeze(1); }

}  // namespace

Parameters::Parameters(at::ScalarType type) {
  int64_t count = 0;
  for (const auto& [name, shape] : lenet5_shapes()) count += c10::multiply_integers(shape);
  flat = at::zeros({count}, type);
  std::vector<at::Tensor> views;
  int64_t begin = 0;
  for (const auto& [name, shape] : lenet5_shapes()) {
    views.push_back(flat.narrow(0, begin, c10::multiply_integers(shape)).view(shape));
    begin += views.back().numel();
  }
  Layer* layers[] = {&c1, &c3, &c5, &f6, &out};
  for (size_t i = 0; i < 5; ++i) *layers[i] = {views[2 * i], views[2 * i + 1]};
}

Parameters::Parameters(const Tensors& named, at::ScalarType type) : Parameters(type) {
  for (auto& [name, view] : this->named()) view.copy_(named.at(name));
}

Tensors Parameters::named() const {
  return {{"c1.weight", c1.weight},   {"c1.bias", c1.bias},  {"c3.weight", c3.weight}, {"c3.bias", c3.bias},
          {"c5.weight", c5.weight},   {"c5.bias", c5.bias},  {"f6.weight", f6.weight}, {"f6.bias", f6.bias},
          {"out.weight", out.weight}, {"out.bias", out.bias}};
}

Convolution::Convolution(Layer weights, Layer gradient, at::Tensor input)
    : x(std::move(input)), dx(at::empty_like(x)), weights_(std::move(weights)), gradient_(std::move(gradient)) {
  const int64_t maps = weights_.weight.size(0), height = x.size(1) - kernel_size + 1, width = x.size(2) - kernel_size + 1,
                samples = x.size(3);
  map_ = at::empty({maps, height, width, samples}, x.options());
  dmap_ = at::empty_like(map_);
  y = at::empty({maps, height / 2, width / 2, samples}, x.options());
  dy = at::empty_like(y);
  pool_index_ = at::empty(y.sizes(), at::kLong);
  partial_sums_ = at::empty({weights_.weight.numel(), 16}, x.options());
}

void Convolution::forward() {
  convolve(x, weights_.weight, 0, map_);
  at::Tensor pooled = samples_as_channels(y), index = samples_as_channels(pool_index_);
  at::max_pool2d_with_indices_out(pooled, index, samples_as_channels(map_), 2);
  rows(y).add_(column(weights_.bias)).relu_();
}

void Convolution::backward() {
  at::threshold_backward_out(dy, dy, y, 0);
  gradient_.bias.add_(rows(dy).sum(1));
  at::Tensor dmap = samples_as_channels(dmap_);
  at::max_pool2d_with_indices_backward_out(dmap, samples_as_channels(dy), samples_as_channels(map_), 2, 2, 0, 1, false,
                                           samples_as_channels(pool_index_));
  add_weight_gradient(x, dmap_, gradient_.weight, partial_sums_);
}

// The gradient of the input is the convolution of the padded gradient of the output with the weight rotated by 180 degrees.
void Convolution::backward_input() { convolve(dmap_, weights_.weight.flip({2, 3}).transpose(0, 1).contiguous(), kernel_size - 1, dx); }

Linear::Linear(Layer weights, Layer gradient, at::Tensor x, at::Tensor dx, bool relu)
    : weights_(std::move(weights)), gradient_(std::move(gradient)), x_(std::move(x)), dx_(std::move(dx)), relu_(relu) {
  y = at::empty({weights_.weight.size(0), x_.size(1)}, x_.options());
  dy = at::empty_like(y);
}

void Linear::forward() {
  at::addmm_out(y, column(weights_.bias), rows(weights_.weight), x_);
  if (relu_) y.relu_();
}

void Linear::backward() {
  if (relu_) at::threshold_backward_out(dy, dy, y, 0);
  gradient_.bias.add_(dy.sum(1));
  rows(gradient_.weight).addmm_(dy, x_.t());
  at::mm_out(dx_, rows(weights_.weight).t(), dy);
}

LeNet5::LeNet5(const Parameters& weights, const Parameters& gradient, int64_t samples)
    : padded_(at::zeros({1, 32, 32, samples}, weights.flat.options())),
      c1_(weights.c1, gradient.c1, padded_),
      c3_(weights.c3, gradient.c3, c1_.y),
      c5_(weights.c5, gradient.c5, c3_.y.view({-1, samples}), c3_.dy.view({-1, samples}), true),
      f6_(weights.f6, gradient.f6, c5_.y, c5_.dy, true),
      out_(weights.out, gradient.out, f6_.y, f6_.dy, false) {
  c3_.dx = c1_.dy;
}

at::Tensor LeNet5::forward(const at::Tensor& images) {
  const int64_t n = images.size(0);
  padded_[0].narrow(0, 2, 28).narrow(1, 2, 28).narrow(2, 0, n).copy_(images.permute({1, 2, 0}));
  c1_.forward();
  c3_.forward();
  c5_.forward();
  f6_.forward();
  out_.forward();
  return out_.y.narrow(1, 0, n);
}

double LeNet5::backward(const at::Tensor& labels, double scale) {
  const int64_t n = labels.size(0);
  const at::Tensor log_probabilities = out_.y.narrow(1, 0, n).log_softmax(0), label = labels.unsqueeze(0);
  out_.dy.zero_();  // columns without a sample must not contribute to the gradient
  at::Tensor dlogits = out_.dy.narrow(1, 0, n);
  at::exp_out(dlogits, log_probabilities);
  dlogits.scatter_add_(0, label, at::full({1, 1}, -1, dlogits.options()).expand(label.sizes())).mul_(scale);
  out_.backward();
  f6_.backward();
  c5_.backward();
  c3_.backward();
  c3_.backward_input();
  c1_.backward();
  return -log_probabilities.gather(0, label).sum().item<double>() * scale;
}

}  // namespace native
