// A team of threads that repeatedly run the same function at the same time.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace native {

// It replaces at::parallel_for, whose threads (GNU OpenMP) wait by spinning: when other programs need the same cores, the spinning threads
// take the time of the thread that they wait for, and a step takes ten times as long. A waiting thread of a team yields, and then sleeps.
class Team {
 public:
  // The caller is thread 0. On the other threads libtorch's operations are single-threaded.
  explicit Team(int64_t threads);
  ~Team();

  // Calls work(i) on every thread i and returns when all calls have ended. Rethrows an exception of any of them.
  void run(const std::function<void(int64_t)>& work);

 private:
  void serve(int64_t i);
  void work(int64_t i);

  const std::function<void(int64_t)>* work_ = nullptr;  // null: the threads exit
  std::atomic<int64_t> round_ = 0, ended_ = 0;
  std::vector<std::exception_ptr> errors_;  // one per thread
  std::vector<std::thread> threads_;
};

}  // namespace native
