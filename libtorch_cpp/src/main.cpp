// Train LeNet-5 in libtorch, or verify what was trained: the trainer contract of train_server/README.md.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <cstdio>
#include <iostream>
#include <map>
#include <string>

#include "error.h"
#include "export.h"
#include "train.h"

namespace {

constexpr char usage[] =
    "usage: lenet5 --spec FILE --data DIR --conditions DIR --out DIR     train, export, verify\n"
    "       lenet5 --verify DIR                                          reload the export of DIR and compare with its golden set\n";

// Without a trailing slash, beside which OUT.partial could not lie.
std::filesystem::path folder(const std::string& text) {
  const auto path = std::filesystem::absolute(text).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

int run(const std::map<std::string, std::string>& flags, std::chrono::steady_clock::time_point start) {
  const c10::InferenceMode guard;  // gradients are written out: autograd records nothing
  if (flags.size() == 1 && flags.contains("--verify")) {
    at::set_num_threads(1);
    std::printf("verified against the golden set  largest difference %.1e\n", verify_export(folder(flags.at("--verify"))));
    return 0;
  }
  if (flags.size() == 4 && flags.contains("--spec") && flags.contains("--data") && flags.contains("--conditions") &&
      flags.contains("--out")) {
    return train({flags.at("--spec"), flags.at("--data"), flags.at("--conditions"), folder(flags.at("--out"))}, start) ? 0 : 1;
  }
  std::cerr << usage;
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  const auto start = std::chrono::steady_clock::now();
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a line at a time, also into a pipe
  std::map<std::string, std::string> flags;
  for (int i = 1; i + 1 < count; i += 2) flags[arguments[i]] = arguments[i + 1];
  if (count % 2 == 0) flags.clear();  // a flag without its value
  try {
    return run(flags, start);
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    std::cerr << "error: " << text.substr(0, text.find('\n')) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
  }
  return 1;
}
