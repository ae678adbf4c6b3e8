#include "src/trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include "adam.h"
#include "parallel.h"

namespace native {

namespace {

class Native : public Trainer {
 public:
  Native(const Conditions& conditions, at::ScalarType type)
      : mean_(conditions.spec.mean),
        std_(conditions.spec.std),
        weights_(conditions.weights, type),
        network_(weights_, conditions.spec.threads),
        adam_(weights_.flat, conditions.spec.beta1, conditions.spec.beta2, conditions.spec.epsilon),
        samples_(normalise(conditions.train.images, conditions.train.labels)) {
    at::set_num_threads(1);  // libtorch's operations are single-threaded: ParallelLeNet5 uses the spec's threads
  }

  at::Tensor train_epoch(const at::Tensor& order, const at::Tensor& rates) override {
    const c10::InferenceMode guard;  // no autograd
    std::vector<double> losses;
    for (int64_t step = 0; step < order.size(0); ++step) {
      losses.push_back(network_.loss(samples_, order[step]));
      adam_.step(network_.gradient().flat, rates[step].item<double>());
    }
    return at::tensor(losses, weights_.flat.scalar_type());
  }

  Tensors probe(const at::Tensor& batch) override {
    const c10::InferenceMode guard;
    Tensors found{{"logits", network_.logits(samples_, batch)}};
    network_.loss(samples_, batch);
    for (const auto& [name, gradient] : network_.gradient().named()) found["gradient." + name] = gradient.clone();
    return found;
  }

  at::Tensor predict(const at::Tensor& images) override {
    const c10::InferenceMode guard;
    const int64_t n = images.size(0);
    return network_.logits(normalise(images, at::zeros({n}, at::kLong)), at::arange(n, at::kInt));
  }

  Tensors weights() const override { return weights_.named(); }

 private:
  // Normalises the images once, for all epochs.
  Samples normalise(const at::Tensor& images, const at::Tensor& labels) const {
    return {images.to(weights_.flat.scalar_type()).div_(255).sub_(mean_).div_(std_), labels.to(at::kLong)};
  }

  double mean_, std_;
  Parameters weights_;
  ParallelLeNet5 network_;
  Adam adam_;
  Samples samples_;
};

}  // namespace

}  // namespace native

std::unique_ptr<Trainer> make_native(const Conditions& conditions, at::ScalarType type) {
  return std::make_unique<native::Native>(conditions, type);
}
