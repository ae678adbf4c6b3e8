// Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1).
#pragma once

#include <ATen/core/Tensor.h>

namespace native {

class Adam {
 public:
  // step() updates the vector `weights` in place.
  Adam(at::Tensor weights, double beta1, double beta2, double epsilon);
  void step(const at::Tensor& gradient, double rate);

 private:
  at::Tensor weights_, mean_, square_, steps_;
  double beta1_, beta2_, epsilon_;
};

}  // namespace native
