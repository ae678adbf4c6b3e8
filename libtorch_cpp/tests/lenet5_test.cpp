#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include "export.h"
#include "fixtures.h"
#include "trainer.h"

namespace {

using Frameworks = std::vector<std::pair<const char*, MakeTrainer>>;

const Frameworks frameworks = {{"libtorch", make_libtorch}, {"native", make_native}};

// The same network as a function of its weights, with autograd.
at::Tensor plain(const Tensors& w, at::Tensor x) {
  const auto bias = [&](const char* name) { return std::optional<at::Tensor>(w.at(name)); };
  x = at::constant_pad_nd(x.unsqueeze(1), {2, 2, 2, 2});
  x = at::max_pool2d(at::conv2d(x, w.at("c1.weight"), bias("c1.bias")).relu(), 2);
  x = at::max_pool2d(at::conv2d(x, w.at("c3.weight"), bias("c3.bias")).relu(), 2);
  x = at::conv2d(x, w.at("c5.weight"), bias("c5.bias")).relu().flatten(1);
  x = at::linear(x, w.at("f6.weight"), bias("f6.bias")).relu();
  return at::linear(x, w.at("out.weight"), bias("out.bias"));
}

// 100 images, half of each constant, as in digits, so that pooling sees many equal values; 5 steps with batches of 70 of them.
Conditions random_conditions(int64_t threads) {
  at::manual_seed(4);
  Conditions conditions;
  conditions.spec = {.dataset = "random", .mean = 0.1307, .std = 0.3081, .samples = 70, .epochs = 1, .batch_size = 70,
                     .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-3, .threads = threads};
  conditions.weights = random_weights();
  conditions.train = {at::randint(256, {100, 28, 28}, at::kByte), at::randint(10, {100}, at::kByte)};
  conditions.train.images.narrow(1, 0, 14).fill_(0);
  std::vector<at::Tensor> order;
  for (int step = 0; step < 5; ++step) order.push_back(at::randperm(100, at::kInt).narrow(0, 0, 70));
  conditions.order = at::stack(order);
  conditions.rates = at::tensor({0.01, 0.02, 0.005, 0.01, 0.001}, at::kDouble);
  return conditions;
}

at::Tensor normalised(const at::Tensor& images, at::ScalarType type) { return (images.to(type) / 255 - 0.1307) / 0.3081; }

}  // namespace

TEST_CASE("logits and gradients are those of libtorch's own layers and autograd, in float and double") {
  for (const auto& [name, make] : frameworks) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
      CAPTURE(name);
      CAPTURE(type);
      const Conditions conditions = random_conditions(1);
      const at::Tensor batch = conditions.order[0];
      Tensors reference;
      for (const auto& [key, weight] : conditions.weights) reference[key] = weight.to(type, /*non_blocking=*/false, /*copy=*/true).set_requires_grad(true);
      const at::Tensor expected = plain(reference, normalised(conditions.train.images, type).index_select(0, batch));
      at::cross_entropy_loss(expected, conditions.train.labels.to(at::kLong).index_select(0, batch)).backward();

      const auto trainer = make(conditions, type);
      const double limit = type == at::kFloat ? 1e-6 : 1e-14;
      for (int again = 0; again < 2; ++again) {
        const Tensors probe = trainer->probe(batch);
        CHECK(probe.size() == 11);
        CHECK(largest_difference(probe.at("logits"), expected.detach()) < limit);
        for (const auto& [key, weight] : reference) {
          CAPTURE(key);
          CHECK(largest_difference(probe.at("gradient." + key), weight.grad()) < limit);
        }
      }
      const at::Tensor images = conditions.train.images;
      CHECK(largest_difference(trainer->predict(images), plain(reference, normalised(images, type)).detach()) < limit);
    }
  }
}

TEST_CASE("the steps are those of the contract's Adam, and their losses those before each step") {
  for (const auto& [name, make] : frameworks) {
    for (const int64_t threads : name == "native" ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{1}) {
      CAPTURE(name);
      CAPTURE(threads);
      const Conditions conditions = random_conditions(threads);
      const Spec& spec = conditions.spec;
      const at::Tensor images = normalised(conditions.train.images, at::kDouble), labels = conditions.train.labels.to(at::kLong);
      Tensors w, m, v;
      for (const auto& [key, weight] : conditions.weights) {
        w[key] = weight.to(at::kDouble);
        m[key] = v[key] = at::zeros_like(w[key]);
      }
      const at::Tensor losses = make(conditions, at::kDouble)->train_epoch(conditions.order, conditions.rates);
      REQUIRE((losses.scalar_type() == at::kDouble));
      for (int64_t t = 1; t <= conditions.order.size(0); ++t) {
        Tensors leaves;
        for (const auto& [key, weight] : w) leaves[key] = weight.clone().set_requires_grad(true);
        const at::Tensor batch = conditions.order[t - 1];
        const at::Tensor loss = at::cross_entropy_loss(plain(leaves, images.index_select(0, batch)), labels.index_select(0, batch));
        CHECK(losses[t - 1].item<double>() == doctest::Approx(loss.item<double>()).epsilon(1e-12));
        loss.backward();
        const auto rate = conditions.rates[t - 1].item<double>();
        for (auto& [key, weight] : w) {
          const at::Tensor g = leaves.at(key).grad();
          m[key] = spec.beta1 * m[key] + (1 - spec.beta1) * g;
          v[key] = spec.beta2 * v[key] + (1 - spec.beta2) * g * g;
          const at::Tensor denominator = v[key].sqrt() / std::sqrt(1 - std::pow(spec.beta2, t)) + spec.epsilon;
          weight = weight - rate / (1 - std::pow(spec.beta1, t)) * m[key] / denominator;
        }
      }
      const auto trainer = make(conditions, at::kDouble);
      trainer->train_epoch(conditions.order, conditions.rates);
      for (const auto& [key, weight] : trainer->weights()) CHECK(largest_difference(weight, w.at(key)) < 1e-12);
    }
  }
}

TEST_CASE("LeNet-5 has 61,706 weights") {
  for (const auto& [name, make] : frameworks) {
    int64_t count = 0;
    for (const auto& [key, weight] : make(random_conditions(1), at::kFloat)->weights()) {
      count += weight.numel();
      CHECK(weight.equal(random_weights().at(key)));
    }
    CHECK(count == 61706);
  }
}

TEST_CASE("the export takes pixels, any number of them, and answers as the trained network") {
  const Folder folder;
  const Conditions conditions = random_conditions(1);
  const at::Tensor pixels = conditions.train.images;
  export_torchscript(folder / "model.pt", conditions.weights, 0.1307, 0.3081);
  auto module = torch::jit::load((folder / "model.pt").string());
  for (const auto& [name, make] : frameworks) {
    const auto trainer = make(conditions, at::kFloat);
    for (const int64_t n : {1, 8, 64}) {
      const auto answer = module.forward({pixels.narrow(0, 0, n).unsqueeze(3).to(at::kFloat)}).toGenericDict();
      const at::Tensor expected = trainer->predict(pixels.narrow(0, 0, n));
      REQUIRE(answer.at("logits").toTensor().sizes() == at::IntArrayRef{n, 10});
      CHECK(largest_difference(answer.at("logits").toTensor().detach(), expected) < 1e-6);
      CHECK(largest_difference(answer.at("probabilities").toTensor().detach(), expected.softmax(1)) < 1e-6);
    }
  }
}
