// Splits a batch over threads and sums their gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <vector>

#include "lenet5.h"
#include "team.h"

namespace native {

// Normalised images (N,28,28) of the network's type, and their labels, int64 (N).
struct Samples {
  at::Tensor images, labels;
};

class ParallelLeNet5 {
 public:
  ParallelLeNet5(const Parameters& weights, int64_t threads);

  // Returns the logits (n,10) of the samples with these indices, int32 (n).
  at::Tensor logits(const Samples& samples, const at::Tensor& indices);

  // Returns the mean cross-entropy of a batch; afterwards, gradient() returns its gradient.
  double loss(const Samples& samples, const at::Tensor& batch);

  const Parameters& gradient() const { return workers_.front().gradient; }

 private:
  // The state of one thread.
  struct Worker {
    // Calls `use(network, first, count)` for consecutive pieces of the samples first..last-1.
    void pieces(const Parameters& weights, int64_t first, int64_t last, const std::function<void(LeNet5&, int64_t, int64_t)>& use);

    Parameters gradient;
    std::map<int64_t, LeNet5> networks;  // by the maximum number of samples
    double loss;
  };

  // Calls `use(worker, first, last)` on every thread with its part of the samples 0..n-1. The division is deterministic.
  void share_out(int64_t n, const std::function<void(Worker&, int64_t, int64_t)>& use);

  const Parameters& weights_;
  std::vector<Worker> workers_;  // one per thread
  Team team_;
};

}  // namespace native
