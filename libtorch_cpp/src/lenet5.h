// LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) with its gradient written out.
//
// Activations lie as (channels, height, width, samples). With the samples innermost a convolution's patches are copies of
// long runs, pooling works on whole vectors of samples, every layer is one matrix product, and nothing is ever transposed.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "safetensors.h"

struct Layer {
  at::Tensor weight, bias;
};

// Name and shape of every weight, in PyTorch's layout.
const std::vector<std::pair<std::string, std::vector<int64_t>>>& lenet5_shapes();

// The 61,706 weights, or as many of anything: named tensors that are views of one vector, so that adding two of them is one
// operation, and an optimiser's step another.
struct Parameters {
  Parameters();  // zeros
  explicit Parameters(const Tensors& named);
  Tensors named() const;

  at::Tensor flat;
  Layer c1, c3, c5, f6, out;
};

// y = relu(max-pool2x2(weight * x) + bias), a 5x5 convolution without padding. ReLU and max-pooling commute: pooled first, the rest is
// four times less work.
class Convolution {
 public:
  // `x` (channels, height, width, samples) is where the input will lie at every forward().
  Convolution(Layer weights, Layer gradient, at::Tensor x);
  void forward();
  void backward();        // reads dy, adds to `gradient`
  void backward_input();  // after backward(): writes dx

  at::Tensor x, dx, y, dy;  // y: (maps, height/2, width/2, samples)

 private:
  Layer weights_, gradient_;
  at::Tensor windows_, patches_, dpatches_;  // (channels,5,5,h,w,samples), as a view of x; copied: (channels·25, h·w·samples)
  at::Tensor map_, dmap_, pool_index_;       // before pooling
};

// y = weight · x + bias, of columns: x (inputs, samples), y (outputs, samples).
class Linear {
 public:
  Linear(Layer weights, Layer gradient, at::Tensor x, at::Tensor dx, bool relu);
  void forward();
  void backward();  // reads dy, adds to `gradient`, writes dx

  at::Tensor y, dy;

 private:
  Layer weights_, gradient_;
  at::Tensor x_, dx_;
  bool relu_;
};

// The network for a fixed number of samples at a time: its buffers are made once.
class LeNet5 {
 public:
  LeNet5(const Parameters& weights, const Parameters& gradient, int64_t samples);

  // images: normalised, float (samples,28,28). Returns the logits (10, samples), valid until the next call.
  const at::Tensor& forward(const at::Tensor& images);

  // Adds the gradient of `scale` × the sum of the cross-entropies of the last forward(); returns that sum. labels: int64 (samples).
  double backward(const at::Tensor& labels, double scale);

 private:
  at::Tensor padded_;  // (1,32,32,samples)
  Convolution c1_, c3_;
  Linear c5_, f6_, out_;
};
