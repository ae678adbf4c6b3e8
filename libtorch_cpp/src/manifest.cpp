#include "manifest.h"

#include <sys/utsname.h>
#include <torch/headeronly/version.h>

#include <ctime>
#include <fstream>
#include <map>

#include "files.h"

namespace fs = std::filesystem;

namespace {

std::string cpu() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string machine() {
  utsname names;
  uname(&names);
  return names.machine;
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  char text[sizeof "2026-11-22T23:46:41Z"];
  std::strftime(text, sizeof text, "%FT%TZ", std::gmtime(&time));
  return text;
}

}  // namespace

void write_manifest(const fs::path& folder, const Conditions& conditions, const nlohmann::ordered_json& metrics) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder)] = sha256(read_file(entry.path()));
  }
  const nlohmann::ordered_json manifest = {
      {"manifest_version", 1},
      {"model", "lenet5"},
      {"framework", "libtorch"},
      {"spec", conditions.spec.json},
      {"dataset", conditions.dataset},
      {"metrics", metrics},
      {"environment",
       {{"packages", {{"torch", TORCH_VERSION}}}, {"threads", conditions.spec.threads}, {"machine", machine()}, {"cpu", cpu()}}},
      {"created", now()},
      {"files", files}};
  write_file(folder / "manifest.json", manifest.dump(2) + "\n");
}
