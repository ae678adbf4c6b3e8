#include "adam.h"

#include <ATen/ATen.h>

namespace native {

Adam::Adam(at::Tensor weights, double beta1, double beta2, double epsilon)
    : weights_(std::move(weights)),
      mean_(at::zeros_like(weights_)),
      square_(at::zeros_like(weights_)),
      steps_(at::zeros({})),
      beta1_(beta1),
      beta2_(beta2),
      epsilon_(epsilon) {}

void Adam::step(const at::Tensor& gradient, double rate) {
  steps_.add_(1);
  at::_fused_adam_({weights_}, {gradient}, {mean_}, {square_}, {}, {steps_}, rate, beta1_, beta2_, /*weight_decay=*/0, epsilon_,
                   /*amsgrad=*/false, /*maximize=*/false);
}

}  // namespace native
