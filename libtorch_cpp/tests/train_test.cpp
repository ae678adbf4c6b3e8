// The program itself, run as a user runs it.
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <sstream>

#include "fixtures.h"

namespace fs = std::filesystem;

namespace {

struct Result {
  int status;
  std::string out, err;
};

Result lenet5(const Folder& folder, const std::string& flags) {
  const std::string out = folder / "stdout.txt", err = folder / "stderr.txt";
  const int status = std::system((std::string(LENET5) + " " + flags + " >" + out + " 2>" + err).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out), read_file(err)};
}

std::string flags(const SmallRun& run, const std::string& out) {
  const std::string root = run.path.string();
  return "--spec " + root + "/spec.json --data " + root + "/data --conditions " + root + "/conditions --out " + root + "/" + out;
}

void flip_a_byte(const fs::path& file, size_t from_end) {
  std::string content = read_file(file);
  content[content.size() - from_end] ^= 1;
  write_file(file, content);
}

void expect_refusal(const SmallRun& run, const std::string& found) {
  const Result result = lenet5(run, flags(run, "out"));
  INFO(result.err);
  CHECK(result.status == 1);
  CHECK(result.err.starts_with("error: "));
  CHECK(result.err.find('\n') == result.err.size() - 1);
  CHECK(result.err.find(found) != std::string::npos);
  CHECK(!fs::exists(run / "out"));
}

}  // namespace

TEST_CASE("a run learns, writes every file of the contract, and is the same when run again") {
  const SmallRun run;
  fs::create_directories(run / "out.partial");
  write_file(run / "out.partial/left.over", "by an earlier try");
  const Result result = lenet5(run, flags(run, "out/"));
  INFO(result.out, result.err);
  REQUIRE(result.status == 0);
  CHECK(result.err.empty());
  CHECK(result.out.find("epoch 3/3  loss ") != std::string::npos);
  CHECK(!fs::exists(run / "out.partial"));

  const auto manifest = nlohmann::json::parse(read_file(run / "out/manifest.json"));
  CHECK(manifest["framework"] == "libtorch");
  CHECK(manifest["spec"] == small_spec());
  CHECK(manifest["metrics"]["accuracy"] > 0.95);
  CHECK(manifest["dataset"]["files"].size() == 4);
  std::vector<std::string> names;
  for (const auto& [name, digest] : manifest["files"].items()) {
    names.push_back(name);
    CHECK(digest == sha256(read_file(run / ("out/" + name))));
  }
  CHECK(names == std::vector<std::string>{"golden.safetensors", "metrics.jsonl", "model.pt", "probe.safetensors"});
  CHECK(std::distance(fs::directory_iterator(run / "out"), {}) == 5);

  std::istringstream metrics(read_file(run / "out/metrics.jsonl"));
  int epochs = 0;
  for (std::string text; std::getline(metrics, text);) {
    const auto line = nlohmann::json::parse(text);
    CHECK(line["epoch"] == ++epochs);
    CHECK(line["samples_per_second"].get<double>() == doctest::Approx(640 / line["seconds"].get<double>()));
  }
  CHECK(epochs == 3);

  const Tensors probe = parse_safetensors("probe", read_file(run / "out/probe.safetensors"));
  CHECK(probe.at("logits").sizes() == at::IntArrayRef{32, 10});
  CHECK(probe.at("losses").sizes() == at::IntArrayRef{60});
  for (const auto& [name, shape] : lenet5_shapes()) CHECK(probe.at("gradient." + name).sizes() == at::IntArrayRef(shape));
  const Tensors golden = parse_safetensors("golden", read_file(run / "out/golden.safetensors"));
  CHECK(golden.at("image").sizes() == at::IntArrayRef{32, 28, 28, 1});
  CHECK(golden.at("image").max().item<float>() == 255);
  CHECK(golden.at("label").equal(golden.at("logits").argmax(1)));
  CHECK(largest_difference(golden.at("probabilities"), golden.at("logits").softmax(1)) < 1e-6);

  REQUIRE(lenet5(run, flags(run, "again")).status == 0);
  for (const char* name : {"golden.safetensors", "probe.safetensors"}) {
    CHECK(read_file(run / (std::string("out/") + name)) == read_file(run / (std::string("again/") + name)));
  }

  const std::string before = read_file(run / "out/manifest.json");
  const Result refused = lenet5(run, flags(run, "out"));
  CHECK(refused.status == 1);
  CHECK(refused.err.find("out exists") != std::string::npos);
  CHECK(read_file(run / "out/manifest.json") == before);

  const std::string verify = "--verify " + (run / "out").string();
  CHECK(lenet5(run, verify).status == 0);
  Tensors other = golden;
  other["logits"] = golden.at("logits") + 1e-3;
  write_file(run / "out/golden.safetensors", to_safetensors(other));
  const Result differs = lenet5(run, verify);
  CHECK(differs.status == 1);
  CHECK(differs.err.find("differs from golden.safetensors by 0.00") != std::string::npos);
}

TEST_CASE("inputs that are not those of the conditions are refused") {
  SUBCASE("weights") {
    const SmallRun run;
    flip_a_byte(run / "conditions/weights.safetensors", 100);
    expect_refusal(run, "weights.safetensors has SHA-256 ");
  }
  SUBCASE("schedule") {
    const SmallRun run;
    flip_a_byte(run / "conditions/schedule.safetensors", 100);
    expect_refusal(run, "schedule.safetensors has SHA-256 ");
  }
  SUBCASE("spec") {
    const SmallRun run;
    write_file(run / "spec.json", small_spec().dump(2));
    expect_refusal(run, "spec.json has SHA-256 ");
  }
  SUBCASE("data") {
    const SmallRun run;
    flip_a_byte(run / "data/t10k-labels-idx1-ubyte", 1);
    expect_refusal(run, "t10k-labels-idx1-ubyte has SHA-256 ");
  }
  SUBCASE("conditions") {
    const SmallRun run;
    write_file(run / "conditions/conditions.json", "{}");
    expect_refusal(run, "conditions.json is not what train_server/README.md describes");
  }
  SUBCASE("no conditions") {
    const SmallRun run;
    fs::remove(run / "conditions/conditions.json");
    expect_refusal(run, "conditions.json cannot be read: No such file or directory");
  }
}

TEST_CASE("a loss that is no number ends the run and names the step") {
  nlohmann::json spec = small_spec();
  spec["learning_rate"] = 1e30;
  expect_refusal(SmallRun(spec), "in epoch 1, step 2: train with a lower learning_rate");
}

TEST_CASE("wrong flags get the usage and status 2") {
  const Folder folder;
  for (const char* wrong :
       {"", "--help me", "--spec a", "--verify", "--verify a --out b", "--spec a --data b --conditions c --out d --fast e"}) {
    CAPTURE(wrong);
    const Result result = lenet5(folder, wrong);
    CHECK(result.status == 2);
    CHECK(result.err.starts_with("usage: lenet5 --spec FILE"));
  }
}

TEST_CASE("a run killed in the middle leaves no version, and the next one ends right") {
  nlohmann::json spec = small_spec();
  spec["epochs"] = 40;
  const SmallRun run(spec);
  const pid_t child = fork();
  if (child == 0) {
    const std::string command = "exec " + std::string(LENET5) + " " + flags(run, "out") + " >" + (run / "progress.txt").string();
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  for (int i = 0; i < 3000 && !fs::exists(run / "out.partial/metrics.jsonl"); ++i) usleep(10'000);
  REQUIRE(fs::exists(run / "out.partial/metrics.jsonl"));
  kill(child, SIGTERM);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
  CHECK(!fs::exists(run / "out"));

  CHECK(lenet5(run, flags(run, "out")).status == 0);
  CHECK(fs::exists(run / "out/manifest.json"));
  CHECK(!fs::exists(run / "out.partial"));
}
