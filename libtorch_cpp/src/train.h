// A training run: conditions in, a version's files out.
#pragma once

#include <chrono>
#include <filesystem>

struct Paths {
  std::filesystem::path spec, data, conditions, out;
};

// Writes `out`, which then is whole; until then everything lies in `out`.partial. `start` is when the program started.
// Throws Error for whatever a user can mend; returns false if the export did not verify, of which the verifying process has said why.
bool train(const Paths& paths, std::chrono::steady_clock::time_point start);
