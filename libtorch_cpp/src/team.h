// Threads that do the same thing at the same time, again and again.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

// Instead of at::parallel_for, whose threads (GNU OpenMP's) wait by spinning: where other programs want the same cores, they spend
// the time that the awaited thread needs, and a step takes ten times as long. These give way while they wait, and then sleep.
class Team {
 public:
  // The caller is thread 0. On the others libtorch's operations run on one thread each.
  explicit Team(int64_t threads);
  ~Team();

  // Calls work(i) on every thread i and returns when all have ended. What one of them throws is thrown here.
  void run(const std::function<void(int64_t)>& work);

 private:
  void serve(int64_t i);
  void work(int64_t i);

  const std::function<void(int64_t)>* work_ = nullptr;  // none: the end
  std::atomic<int64_t> round_ = 0, ended_ = 0;
  std::vector<std::exception_ptr> errors_;  // one a thread
  std::vector<std::thread> threads_;
};
