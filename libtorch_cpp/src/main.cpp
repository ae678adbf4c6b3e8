// Trains LeNet-5, or verifies an export: the trainer contract of train_server/README.md.
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <string>

#include "error.h"
#include "export.h"
#include "train.h"

namespace {

using Flags = std::map<std::string, std::string>;

constexpr char usage[] =
    "usage: lenet5 [--framework libtorch|native] --spec FILE --data DIR --conditions DIR --out DIR     train and export\n"
    "       lenet5 [--framework libtorch|native] --verify DIR     reload the export in DIR and compare it with its golden set\n";

const std::map<std::string, MakeTrainer> frameworks = {{"libtorch", make_libtorch}, {"native", make_native}};

bool are(const Flags& flags, std::initializer_list<const char*> names) {
  return flags.size() == names.size() && std::all_of(names.begin(), names.end(), [&](const char* name) { return flags.contains(name); });
}

int run(Flags flags, std::chrono::steady_clock::time_point start) {
  flags.try_emplace("--framework", "libtorch");
  const auto framework = frameworks.find(flags.at("--framework"));
  if (framework != frameworks.end() && are(flags, {"--framework", "--verify"})) {
    const c10::InferenceMode guard;
    at::set_num_threads(1);
    std::printf("model.pt verified against the golden set  largest difference %.1e\n", verify_export(flags.at("--verify")));
    return 0;
  }
  if (framework != frameworks.end() && are(flags, {"--framework", "--spec", "--data", "--conditions", "--out"})) {
    train(framework->second, {flags.at("--spec"), flags.at("--data"), flags.at("--conditions"), flags.at("--out")}, start);
    return 0;
  }
  std::cerr << usage;
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  const auto start = std::chrono::steady_clock::now();
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // line-buffered, also into a pipe
  Flags flags;
  for (int i = 1; i + 1 < count; i += 2) flags[arguments[i]] = arguments[i + 1];
  if (count % 2 == 0) flags.clear();  // a flag has no value
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
