// A batch split over threads, their gradients summed.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <vector>

#include "lenet5.h"

// Normalised images, float (N,28,28), and their labels, int64 (N).
struct Samples {
  at::Tensor images, labels;
};

class ParallelLeNet5 {
 public:
  ParallelLeNet5(const Parameters& weights, int64_t threads);

  // Logits (n,10) of the samples with these indices, int32 (n).
  at::Tensor logits(const Samples& samples, const at::Tensor& indices);

  // Mean cross-entropy of a batch; its gradient is in gradient() afterwards.
  double loss(const Samples& samples, const at::Tensor& batch);

  const Parameters& gradient() const { return workers_.front().gradient; }

 private:
  struct Worker {
    Parameters gradient;
    std::map<int64_t, LeNet5> networks;  // by the number of samples they take
    double loss;
  };

  // Calls `use(worker, network, first, count)` for pieces of 0..n-1, each thread its own ones, in an order that never changes.
  void split(int64_t n, const std::function<void(Worker&, LeNet5&, int64_t, int64_t)>& use);

  const Parameters& weights_;
  std::vector<Worker> workers_;
};
