#include "native/lenet5.h"

#include "native/parallel.h"
#include "tests/fixtures.h"

using native::ParallelLeNet5, native::Parameters, native::Samples;

TEST_CASE("a batch in pieces and on threads has the logits, loss and gradient of the whole one, the same each time") {
  at::manual_seed(4);
  const Samples samples{at::randn({100, 28, 28}), at::randint(10, {100}, at::kLong)};
  const at::Tensor batch = at::randperm(100, at::kInt).narrow(0, 0, 70);
  const Parameters weights(random_weights(), at::kFloat);
  ParallelLeNet5 whole(weights, 1);
  const at::Tensor logits = whole.logits(samples, batch);
  const double loss = whole.loss(samples, batch);
  for (const int64_t threads : {2, 3, 80}) {  // pieces of 32 and less, and threads without a sample
    CAPTURE(threads);
    ParallelLeNet5 network(weights, threads);
    CHECK(largest_difference(network.logits(samples, batch), logits) < 1e-6);
    CHECK(network.loss(samples, batch) == doctest::Approx(loss).epsilon(1e-6));
    CHECK(largest_difference(network.gradient().flat, whole.gradient().flat) < 1e-6);
    const at::Tensor once = network.gradient().flat.clone();
    network.loss(samples, batch);
    CHECK(network.gradient().flat.equal(once));
  }
}

TEST_CASE("the named weights are views of one vector") {
  const Parameters parameters(random_weights(), at::kFloat);
  CHECK(parameters.flat.numel() == 61706);
  for (const auto& [name, weight] : random_weights()) CHECK(parameters.named().at(name).equal(weight));
  parameters.flat.zero_();
  CHECK(parameters.out.bias.abs().sum().item<float>() == 0);
}
