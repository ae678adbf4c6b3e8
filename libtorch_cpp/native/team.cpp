#include "team.h"

#include <ATen/Parallel.h>

#include <utility>

namespace native {

namespace {

constexpr int patience = 2000;  // polls before sleeping, about the time of a step; waking up from sleep takes a tenth of it

// Waits until the value differs from `old`, and returns it.
int64_t await_change(const std::atomic<int64_t>& value, int64_t old) {
  for (int i = 0; i < patience; ++i) {
    if (const int64_t now = value; now != old) return now;
    std::this_thread::yield();
  }
  value.wait(old);
  return value;
}

}  // namespace

Team::Team(int64_t threads) : errors_(threads) {
  for (int64_t i = 1; i < threads; ++i) threads_.emplace_back([this, i] { serve(i); });
}

Team::~Team() {
  work_ = nullptr;
  ++round_;
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::run(const std::function<void(int64_t)>& work) {
  work_ = &work;
  ended_ = 0;
  ++round_;
  round_.notify_all();
  this->work(0);
  const auto others = static_cast<int64_t>(threads_.size());
  for (int64_t ended = ended_; ended < others;) ended = await_change(ended_, ended);
  for (std::exception_ptr& error : errors_) {
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }
}

void Team::serve(int64_t i) {
  at::set_num_threads(1);
  for (int64_t round = 0;;) {
    round = await_change(round_, round);
    if (work_ == nullptr) return;
    work(i);
    ++ended_;
    ended_.notify_one();
  }
}

void Team::work(int64_t i) {
  try {
    (*work_)(i);
  } catch (...) {
    errors_[i] = std::current_exception();
  }
}

}  // namespace native
