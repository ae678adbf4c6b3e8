// Tests of the program on its command line.
#include <sys/wait.h>

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

std::string flags(const SmallRun& run, const std::string& framework, const std::string& out) {
  const std::string root = run.path.string();
  fs::create_directories(run / out);
  return "--framework " + framework + " --spec " + root + "/spec.json --data " + root + "/data --conditions " + root +
         "/conditions --out " + root + "/" + out;
}

void expect_error(const Result& result, const std::string& found) {
  INFO(result.err);
  CHECK(result.status == 1);
  CHECK(result.err.starts_with("error: "));
  CHECK(result.err.find('\n') == result.err.size() - 1);
  CHECK(result.err.find(found) != std::string::npos);
}

}  // namespace

TEST_CASE("a run learns, writes every file of the contract, and is the same when run again") {
  for (const char* framework : {"libtorch", "native"}) {
    CAPTURE(framework);
    nlohmann::json spec = small_spec();
    if (framework == std::string("native")) spec["threads"] = 2;  // libtorch's own threads spin: on a busy machine they take minutes
    const SmallRun run(spec);
    const Result result = lenet5(run, flags(run, framework, "out"));
    INFO(result.out, result.err);
    REQUIRE(result.status == 0);
    CHECK(result.err.empty());
    CHECK(result.out.find("epoch 3/3  loss ") != std::string::npos);
    for (const char* name : {"golden.safetensors", "metrics.jsonl", "model.pt", "probe.safetensors"}) CHECK(fs::exists(run / "out" / name));
    CHECK(std::distance(fs::directory_iterator(run / "out"), {}) == 4);

    std::istringstream metrics(read_file(run / "out/metrics.jsonl"));
    nlohmann::json line;
    int epochs = 0;
    for (std::string text; std::getline(metrics, text);) {
      line = nlohmann::json::parse(text);
      CHECK(line["epoch"] == ++epochs);
      CHECK(line["samples_per_second"].get<double>() == doctest::Approx(640 / line["seconds"].get<double>()));
      CHECK(line.contains("setup_seconds") == (epochs == 1));
    }
    CHECK(epochs == 3);
    CHECK(line["accuracy"] > 0.95);

    const Tensors probe = parse_safetensors("probe", read_file(run / "out/probe.safetensors"));
    CHECK(probe.at("logits").sizes() == at::IntArrayRef{32, 10});
    CHECK(probe.at("losses").sizes() == at::IntArrayRef{60});
    CHECK((probe.at("losses").scalar_type() == at::kFloat));
    CHECK((probe.at("rehearsal").scalar_type() == at::kDouble));
    for (const auto& [name, shape] : lenet5_shapes()) {
      CHECK(probe.at("gradient." + name).sizes() == at::IntArrayRef(shape));
      CHECK((probe.at("gradient." + name).scalar_type() == at::kDouble));
    }
    const Tensors golden = parse_safetensors("golden", read_file(run / "out/golden.safetensors"));
    CHECK(golden.at("image").sizes() == at::IntArrayRef{32, 28, 28, 1});
    CHECK(golden.at("image").max().item<float>() == 255);
    CHECK(golden.at("label").equal(golden.at("logits").argmax(1)));
    CHECK(largest_difference(golden.at("probabilities"), golden.at("logits").softmax(1)) < 1e-6);

    REQUIRE(lenet5(run, flags(run, framework, "again")).status == 0);
    for (const char* name : {"golden.safetensors", "probe.safetensors"}) {
      CHECK(read_file(run / (std::string("out/") + name)) == read_file(run / (std::string("again/") + name)));
    }

    const std::string verify = std::string("--framework ") + framework + " --verify " + (run / "out").string();
    CHECK(lenet5(run, verify).status == 0);
    Tensors other = golden;
    other["logits"] = golden.at("logits") + 1e-3;
    write_file(run / "out/golden.safetensors", to_safetensors(other));
    expect_error(lenet5(run, verify), "differs from golden.safetensors by 0.00");
  }
}

TEST_CASE("missing and damaged files are named") {
  const SmallRun run;
  write_file(run / "conditions/weights.safetensors", "short");
  expect_error(lenet5(run, flags(run, "libtorch", "out")), "weights.safetensors is not a valid safetensors file");
  fs::remove(run / "conditions/weights.safetensors");
  expect_error(lenet5(run, flags(run, "libtorch", "out")), "weights.safetensors cannot be read: No such file or directory");
  CHECK(fs::is_empty(run / "out"));
}

TEST_CASE("a loss that is not finite ends the run, and the error names the step") {
  nlohmann::json spec = small_spec();
  spec["learning_rate"] = 1e30;
  const SmallRun run(spec);
  for (const char* framework : {"libtorch", "native"}) {
    expect_error(lenet5(run, flags(run, framework, framework)), "in epoch 1, step 2: train with a lower learning_rate");
  }
}

TEST_CASE("wrong flags print the usage and exit with status 2") {
  const Folder folder;
  for (const char* wrong :
       {"", "--help me", "--spec a", "--verify", "--verify a --out b", "--spec a --data b --conditions c --out d --fast e",
        "--framework fast --verify a"}) {
    CAPTURE(wrong);
    const Result result = lenet5(folder, wrong);
    CHECK(result.status == 2);
    CHECK(result.err.starts_with("usage: lenet5 "));
  }
}
