#include "parallel.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

namespace {

constexpr int64_t piece = 32;  // samples a network takes at once: more would not fit in a core's cache

}  // namespace

ParallelLeNet5::ParallelLeNet5(const Parameters& weights, int64_t threads) : weights_(weights), workers_(threads) {}

void ParallelLeNet5::split(int64_t n, const std::function<void(Worker&, LeNet5&, int64_t, int64_t)>& use) {
  const int64_t threads = workers_.size();
  // Inside at::parallel_for libtorch's own operations stay on their thread.
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode guard;
    for (int64_t i = begin; i < end; ++i) {
      Worker& worker = workers_[i];
      const int64_t last = n * (i + 1) / threads;
      for (int64_t first = n * i / threads, count; first < last; first += count) {
        count = std::min(piece, last - first);
        LeNet5& network = worker.networks.try_emplace(count, weights_, worker.gradient, count).first->second;
        use(worker, network, first, count);
      }
    }
  });
}

at::Tensor ParallelLeNet5::logits(const Samples& samples, const at::Tensor& indices) {
  at::Tensor logits = at::empty({indices.size(0), 10});
  split(indices.size(0), [&](Worker&, LeNet5& network, int64_t first, int64_t count) {
    const at::Tensor images = samples.images.index_select(0, indices.narrow(0, first, count));
    logits.narrow(0, first, count).copy_(network.forward(images).t());
  });
  return logits;
}

double ParallelLeNet5::loss(const Samples& samples, const at::Tensor& batch) {
  for (Worker& worker : workers_) {
    worker.gradient.flat.zero_();
    worker.loss = 0;
  }
  split(batch.size(0), [&](Worker& worker, LeNet5& network, int64_t first, int64_t count) {
    const at::Tensor indices = batch.narrow(0, first, count);
    network.forward(samples.images.index_select(0, indices));
    worker.loss += network.backward(samples.labels.index_select(0, indices), 1.0 / batch.size(0));
  });
  double loss = workers_.front().loss;
  for (auto worker = workers_.begin() + 1; worker != workers_.end(); ++worker) {
    gradient().flat.add_(worker->gradient.flat);
    loss += worker->loss;
  }
  return loss;
}
