// LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) with its gradient written out.
//
// Activations lie as (channels, height, width, samples). With the samples innermost a register holds one pixel of many samples:
// convolutions and pooling, whose channels (1, 6, 16) are too few to fill registers, need no padding, no copies and no shuffles,
// a fully connected layer is one matrix product, and nothing is ever transposed.
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
  explicit Parameters(at::ScalarType type);  // zeros
  Parameters(const Tensors& named, at::ScalarType type);
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
  at::Tensor map_, dmap_, pool_index_;  // (maps, height, width, samples), before pooling
  at::Tensor partial_sums_;
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

// The network for up to so many samples at a time, in the weights' type: its buffers are made once.
class LeNet5 {
 public:
  // `samples`: a multiple of sample_tile.
  LeNet5(const Parameters& weights, const Parameters& gradient, int64_t samples);

  // images: normalised (n,28,28), n <= samples. Returns the logits (10,n), valid until the next call.
  at::Tensor forward(const at::Tensor& images);

  // Adds the gradient of `scale` × the sum of the cross-entropies of the last forward(); returns that sum. labels: int64 (n).
  double backward(const at::Tensor& labels, double scale);

 private:
  at::Tensor padded_;  // (1,32,32,samples)
  Convolution c1_, c3_;
  Linear c5_, f6_, out_;
};
