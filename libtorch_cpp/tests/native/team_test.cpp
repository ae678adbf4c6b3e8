#include "native/team.h"

#include <ATen/Parallel.h>

#include "tests/fixtures.h"

using native::Team;

TEST_CASE("every thread of a team does its part of every round") {
  for (const int64_t threads : {1, 2, 5}) {
    Team team(threads);
    std::vector<int64_t> rounds(threads, 0), libtorch_threads(threads, 0);
    std::vector<std::thread::id> ids(threads);
    for (int64_t round = 1; round <= 1000; ++round) {
      team.run([&](int64_t i) {
        ++rounds[i];
        libtorch_threads[i] = at::get_num_threads();
        ids[i] = std::this_thread::get_id();
      });
      REQUIRE(rounds == std::vector<int64_t>(threads, round));
    }
    for (int64_t i = 1; i < threads; ++i) CHECK(libtorch_threads[i] == 1);
    CHECK(ids[0] == std::this_thread::get_id());
    std::sort(ids.begin(), ids.end());
    CHECK(std::unique(ids.begin(), ids.end()) == ids.end());
  }
}

TEST_CASE("what a thread of a team throws is thrown to the caller, after all have ended, and the team goes on") {
  Team team(3);
  for (const int64_t thrower : {0, 1, 2}) {
    std::atomic<int> others = 0;
    const auto work = [&](int64_t i) {
      if (i == thrower) throw Error("thread " + std::to_string(i));
      ++others;
    };
    CHECK_ERROR(team.run(work), "thread " + std::to_string(thrower));
    CHECK(others == 2);
  }
  std::atomic<int> all = 0;
  team.run([&](int64_t) { ++all; });
  CHECK(all == 3);
}
