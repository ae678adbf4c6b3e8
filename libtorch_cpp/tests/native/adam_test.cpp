#include "native/adam.h"

#include "tests/fixtures.h"

TEST_CASE("Adam follows the formula of the contract, in double precision, over a hundred steps") {
  at::manual_seed(3);
  const double beta1 = 0.8, beta2 = 0.99, epsilon = 1e-3;
  const at::Tensor weights = at::randn({1000});
  at::Tensor w = weights.to(at::kDouble), m = at::zeros_like(w), v = at::zeros_like(w);
  native::Adam adam(weights, beta1, beta2, epsilon);
  for (int t = 1; t <= 100; ++t) {
    const at::Tensor gradient = at::randn({1000});
    const double rate = 0.01 / t;
    adam.step(gradient, rate);
    const at::Tensor g = gradient.to(at::kDouble);
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    w = w - rate / (1 - std::pow(beta1, t)) * m / (v.sqrt() / std::sqrt(1 - std::pow(beta2, t)) + epsilon);
  }
  CHECK(largest_difference(weights.to(at::kDouble), w) < 2e-6);
}
