#include "lenet5.h"

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include "export.h"
#include "fixtures.h"
#include "parallel.h"

namespace {

// The same network as anybody would write it, with autograd.
at::Tensor plain(const Tensors& w, at::Tensor x) {
  const auto bias = [&](const char* name) { return std::optional<at::Tensor>(w.at(name)); };
  x = at::constant_pad_nd(x.unsqueeze(1), {2, 2, 2, 2});
  x = at::max_pool2d(at::conv2d(x, w.at("c1.weight"), bias("c1.bias")).relu(), 2);
  x = at::max_pool2d(at::conv2d(x, w.at("c3.weight"), bias("c3.bias")).relu(), 2);
  x = at::conv2d(x, w.at("c5.weight"), bias("c5.bias")).relu().flatten(1);
  x = at::linear(x, w.at("f6.weight"), bias("f6.bias")).relu();
  return at::linear(x, w.at("out.weight"), bias("out.bias"));
}

// Half of every image is flat, as in digits, so that pooling meets many equal values.
Samples random_samples(int64_t n) {
  at::manual_seed(4);
  const at::Tensor images = at::randn({n, 28, 28});
  images.narrow(1, 0, 14).fill_(-0.4242);
  return {images, at::randint(10, {n}, at::kLong)};
}

}  // namespace

TEST_CASE("logits, loss and gradients are those of libtorch's own layers and autograd") {
  const Samples samples = random_samples(100);
  const at::Tensor batch = at::randperm(100, at::kInt).narrow(0, 0, 70);
  Tensors reference = random_weights();
  for (auto& [name, weight] : reference) weight.set_requires_grad(true);
  const at::Tensor expected = plain(reference, samples.images.index_select(0, batch));
  const at::Tensor loss = at::cross_entropy_loss(expected, samples.labels.index_select(0, batch));
  loss.backward();

  const Parameters weights(random_weights(), at::kFloat);
  for (const int64_t threads : {1, 2, 3, 80}) {  // pieces of 32 and less, and threads without a sample
    CAPTURE(threads);
    ParallelLeNet5 network(weights, threads);
    CHECK(largest_difference(network.logits(samples, batch), expected.detach()) < 1e-6);
    CHECK(network.loss(samples, batch) == doctest::Approx(loss.item<double>()).epsilon(1e-6));
    for (const auto& [name, gradient] : network.gradient().named()) {
      CAPTURE(name);
      CHECK(largest_difference(gradient, reference.at(name).grad()) < 1e-6);
    }
    const at::Tensor once = network.gradient().flat.clone();
    network.loss(samples, batch);
    CHECK(network.gradient().flat.equal(once));
  }
}

TEST_CASE("LeNet-5 has 61,706 weights, and its named tensors are views of them") {
  const Parameters parameters(random_weights(), at::kFloat);
  CHECK(parameters.flat.numel() == 61706);
  for (const auto& [name, weight] : random_weights()) CHECK(parameters.named().at(name).equal(weight));
  parameters.flat.zero_();
  CHECK(parameters.out.bias.abs().sum().item<float>() == 0);
}

TEST_CASE("the export takes pixels, any number of them, and answers as the trained network") {
  const Folder folder;
  const at::Tensor pixels = at::randint(256, {64, 28, 28}, at::kByte);
  const Samples samples{(pixels.to(at::kFloat) / 255 - 0.1307) / 0.3081, at::zeros({64}, at::kLong)};
  export_torchscript(folder / "model.pt", random_weights(), 0.1307, 0.3081);
  auto module = torch::jit::load((folder / "model.pt").string());
  const Parameters weights(random_weights(), at::kFloat);
  ParallelLeNet5 network(weights, 1);
  for (const int64_t n : {1, 8, 64}) {
    const auto answer = module.forward({pixels.narrow(0, 0, n).unsqueeze(3).to(at::kFloat)}).toGenericDict();
    const at::Tensor expected = network.logits(samples, at::arange(n, at::kInt));
    REQUIRE(answer.at("logits").toTensor().sizes() == at::IntArrayRef{n, 10});
    CHECK(largest_difference(answer.at("logits").toTensor(), expected) < 1e-6);
    CHECK(largest_difference(answer.at("probabilities").toTensor(), expected.softmax(1)) < 1e-6);
  }
}
