// LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) with a hand-written gradient.
//
// Activations have the layout (channels, height, width, samples). With the samples innermost, a register holds one pixel of many samples.
// The channels (1, 6, 16) are too few to fill registers. In this layout convolutions and pooling need no padding, copies or shuffles, a
// fully connected layer is one matrix product, and nothing is transposed.
#pragma once

#include <ATen/core/Tensor.h>

#include "src/safetensors.h"

namespace native {

struct Layer {
  at::Tensor weight, bias;
};

// The 61,706 weights, or values of the same shapes such as their gradients. The named tensors are views of one vector, so that adding two
// sets of parameters, or an optimiser's step, is one operation.
struct Parameters {
  explicit Parameters(at::ScalarType type);  // zeros
  Parameters(const Tensors& named, at::ScalarType type);
  Tensors named() const;

  at::Tensor flat;
  Layer c1, c3, c5, f6, out;
};

// y = relu(max-pool2x2(weight * x) + bias), a 5x5 convolution without padding. ReLU and max-pooling commute; with pooling first, the other
// operations have a quarter of the work.
class Convolution {
 public:
  // `x` (channels, height, width, samples) is the buffer that holds the input of every forward().
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

// y = weight · x + bias, with a column per sample: x (inputs, samples), y (outputs, samples).
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

// The network for up to `samples` samples at a time, in the weights' type. Its buffers are allocated once.
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

}  // namespace native
