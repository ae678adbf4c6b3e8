#include "parallel.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "convolution.h"

namespace native {

namespace {

constexpr int64_t piece = 32;  // samples per call of a network; more would not fit into a core's cache

}  // namespace

ParallelLeNet5::ParallelLeNet5(const Parameters& weights, int64_t threads) : weights_(weights), team_(threads) {
  for (int64_t i = 0; i < threads; ++i) workers_.push_back({Parameters(weights.flat.scalar_type()), {}, 0});
}

void ParallelLeNet5::Worker::pieces(const Parameters& weights, int64_t first, int64_t last,
                                    const std::function<void(LeNet5&, int64_t, int64_t)>& use) {
  for (int64_t count; first < last; first += count) {
    count = std::min(piece, last - first);
    const int64_t room = (count + sample_tile - 1) / sample_tile * sample_tile;
    use(networks.try_emplace(room, weights, gradient, room).first->second, first, count);
  }
}

void ParallelLeNet5::share_out(int64_t n, const std::function<void(Worker&, int64_t, int64_t)>& use) {
  const int64_t threads = workers_.size();
  team_.run([&](int64_t i) {
    const c10::InferenceMode guard;
    use(workers_[i], n * i / threads, n * (i + 1) / threads);
  });
}

at::Tensor ParallelLeNet5::logits(const Samples& samples, const at::Tensor& indices) {
  at::Tensor logits = at::empty({indices.size(0), 10}, weights_.flat.options());
  share_out(indices.size(0), [&](Worker& worker, int64_t begin, int64_t end) {
    worker.pieces(weights_, begin, end, [&](LeNet5& network, int64_t first, int64_t count) {
      const at::Tensor images = samples.images.index_select(0, indices.narrow(0, first, count));
      logits.narrow(0, first, count).copy_(network.forward(images).t());
    });
  });
  return logits;
}

double ParallelLeNet5::loss(const Samples& samples, const at::Tensor& batch) {
  share_out(batch.size(0), [&](Worker& worker, int64_t begin, int64_t end) {
    worker.gradient.flat.zero_();
    worker.loss = 0;
    worker.pieces(weights_, begin, end, [&](LeNet5& network, int64_t first, int64_t count) {
      const at::Tensor indices = batch.narrow(0, first, count);
      network.forward(samples.images.index_select(0, indices));
      worker.loss += network.backward(samples.labels.index_select(0, indices), 1.0 / batch.size(0));
    });
  });
  // In a fixed order, so that the sums are deterministic.
  double loss = workers_.front().loss;
  for (auto worker = workers_.begin() + 1; worker != workers_.end(); ++worker) {
    gradient().flat.add_(worker->gradient.flat);
    loss += worker->loss;
  }
  return loss;
}

}  // namespace native
