// LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) in idiomatic libtorch: a module, autograd, and
// Adam from torch::optim. <torch/torch.h> includes these headers and many more, and takes three times as long to compile.
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>

#include "trainer.h"

namespace {

using torch::Tensor;
using torch::nn::functional::cross_entropy;

// Normalised images (n,1,32,32) → logits (n,10). 61,706 parameters.
struct LeNet5 : torch::nn::Module {
  LeNet5() {
    register_module("c1", c1);
    register_module("c3", c3);
    register_module("c5", c5);
    register_module("f6", f6);
    register_module("out", out);
  }

  Tensor forward(Tensor x) {
    x = torch::relu(torch::max_pool2d(c1(x), 2));  // ReLU commutes with max-pooling: after pooling it has a quarter of the work
    x = torch::relu(torch::max_pool2d(c3(x), 2));
    // C5's kernel covers all of S4, so its convolution is one matrix product.
    x = torch::relu(torch::linear(x.flatten(1), c5->weight.flatten(1), c5->bias));
    x = torch::relu(f6(x));
    return out(x);
  }

  torch::nn::Conv2d c1{1, 6, 5}, c3{6, 16, 5}, c5{16, 120, 5};
  torch::nn::Linear f6{120, 84}, out{84, 10};
};

class Libtorch : public Trainer {
 public:
  Libtorch(const Conditions& conditions, torch::ScalarType type)
      : mean_(conditions.spec.mean),
        std_(conditions.spec.std),
        optimizer_(model_.parameters(),
                   torch::optim::AdamOptions().betas({conditions.spec.beta1, conditions.spec.beta2}).eps(conditions.spec.epsilon)) {
    at::set_num_threads(static_cast<int>(conditions.spec.threads));
    for (const auto& weight : model_.named_parameters()) {
      // oneDNN's convolutions with few channels are faster in channels-last layout; C5's weight is used as a matrix.
      const bool few_channels = weight.key() == "c1.weight" || weight.key() == "c3.weight";
      const auto layout = few_channels ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
      weight.value().set_data(conditions.weights.at(weight.key()).to(type, /*non_blocking=*/false, /*copy=*/true, layout));
    }
    images_ = normalise(conditions.train.images);
    labels_ = conditions.train.labels.to(torch::kLong);
  }

  Tensor train_epoch(const Tensor& order, const Tensor& rates) override {
    auto& options = static_cast<torch::optim::AdamOptions&>(optimizer_.param_groups()[0].options());
    Tensor losses = torch::empty({order.size(0)}, images_.options());
    for (int64_t step = 0; step < order.size(0); ++step) {
      const Tensor batch = order[step];
      const Tensor logits = model_.forward(images_.index_select(0, batch));
      const Tensor loss = cross_entropy(logits, labels_.index_select(0, batch));
      optimizer_.zero_grad();
      loss.backward();
      options.lr(rates[step].item<double>());
      optimizer_.step();
      losses[step] = loss.detach();
    }
    return losses;
  }

  Tensors probe(const Tensor& batch) override {
    const Tensor logits = model_.forward(images_.index_select(0, batch));
    optimizer_.zero_grad();
    cross_entropy(logits, labels_.index_select(0, batch)).backward();
    Tensors found{{"logits", logits.detach()}};
    for (const auto& weight : model_.named_parameters()) found["gradient." + weight.key()] = weight.value().grad();
    return found;
  }

  Tensor predict(const Tensor& images) override {
    const torch::NoGradGuard no_grad;
    std::vector<Tensor> logits;
    for (const Tensor& some : images.split(1000)) logits.push_back(model_.forward(normalise(some)));
    return torch::cat(logits);
  }

  Tensors weights() const override {
    Tensors found;
    for (const auto& weight : model_.named_parameters()) found[weight.key()] = weight.value().detach().contiguous();
    return found;
  }

 private:
  // Converts pixels, uint8 (n,28,28), to the network's input (n,1,32,32).
  Tensor normalise(const Tensor& images) const {
    const Tensor x = images.unsqueeze(1).to(model_.out->weight.scalar_type());
    return torch::constant_pad_nd((x / 255 - mean_) / std_, {2, 2, 2, 2});
  }

  double mean_, std_;
  LeNet5 model_;
  torch::optim::Adam optimizer_;
  Tensor images_, labels_;  // the whole data set
};

}  // namespace

std::unique_ptr<Trainer> make_libtorch(const Conditions& conditions, torch::ScalarType type) {
  return std::make_unique<Libtorch>(conditions, type);
}
