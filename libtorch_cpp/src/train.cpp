#include "train.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <fstream>

#include "adam.h"
#include "conditions.h"
#include "error.h"
#include "export.h"
#include "files.h"
#include "manifest.h"
#include "parallel.h"

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr int64_t golden_images = 32;
constexpr int64_t rehearsal_steps = 101;  // the last loss is the one after 100

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Normalised once, for all epochs.
Samples normalise(const at::Tensor& images, const at::Tensor& labels, const Spec& spec, at::ScalarType type) {
  return {images.to(type).div_(255).sub_(spec.mean).div_(spec.std), labels.to(at::kLong)};
}

at::Tensor all(const Samples& samples) { return at::arange(samples.labels.size(0), at::kInt); }

at::Tensor predict(ParallelLeNet5& network, const Samples& samples) { return network.logits(samples, all(samples)).argmax(1); }

double accuracy(const at::Tensor& predictions, const Samples& samples) {
  return predictions.eq(samples.labels).to(at::kDouble).mean().item<double>();
}

Tensors probe(ParallelLeNet5& network, const Samples& samples, const at::Tensor& batch) {
  Tensors probe{{"logits", network.logits(samples, batch)}};
  network.loss(samples, batch);
  for (const auto& [name, gradient] : network.gradient().named()) probe["gradient." + name] = gradient.clone();
  return probe;
}

// The losses of the run's first steps, taken in double by the code that trains: float64 (at most rehearsal_steps).
at::Tensor rehearse(const Conditions& conditions) {
  const Spec& spec = conditions.spec;
  const at::Tensor order = conditions.order.view({-1, spec.batch_size}).slice(0, 0, rehearsal_steps), chosen = order.flatten();
  const Samples samples =
      normalise(conditions.train.images.index_select(0, chosen), conditions.train.labels.index_select(0, chosen), spec, at::kDouble);
  const Parameters weights(conditions.weights, at::kDouble);
  ParallelLeNet5 network(weights, spec.threads);
  Adam adam(weights.flat, spec.beta1, spec.beta2, spec.epsilon);
  const at::Tensor renumbered = at::arange(chosen.numel(), at::kInt).view_as(order);
  std::vector<double> losses;
  for (int64_t step = 0; step < order.size(0); ++step) {
    losses.push_back(network.loss(samples, renumbered[step]));
    adam.step(network.gradient().flat, conditions.rates.const_data_ptr<double>()[step]);
  }
  return at::tensor(losses, at::kDouble);
}

Tensors golden(ParallelLeNet5& network, const Samples& samples, const at::Tensor& pixels) {
  const int64_t n = std::min(golden_images, pixels.size(0));
  const at::Tensor logits = network.logits(samples, at::arange(n, at::kInt));
  return {{"image", pixels.narrow(0, 0, n).unsqueeze(3).to(at::kFloat)},
          {"logits", logits},
          {"probabilities", logits.softmax(1)},
          {"label", logits.argmax(1)}};
}

// Verifies in a process of its own, so that nothing but the files can make it succeed. Returns whether they did; if not, that
// process has said on stderr what is wrong.
bool verified_in_fresh_process(const fs::path& folder) {
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);  // it does not outlive the trainer
    execl("/proc/self/exe", "lenet5", "--verify", folder.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) == 127) {
    throw Error("the process that verifies " + folder.string() + " did not run to its end: check memory, then train again");
  }
  return WEXITSTATUS(status) == 0;
}

}  // namespace

bool train(const Paths& paths, Clock::time_point start) {
  fs::path partial = paths.out;
  partial += ".partial";
  if (fs::exists(paths.out)) throw Error(paths.out.string() + " exists: a version is never overwritten, give another --out");
  fs::remove_all(partial);

  const Conditions conditions = load_conditions(paths.spec, paths.data, paths.conditions);
  const Spec& spec = conditions.spec;
  at::set_num_threads(1);  // of libtorch's operations: the threads of the spec are ParallelLeNet5's, around them
  fs::create_directories(partial);
  std::printf("libtorch %s  threads %ld  %ld samples of %s  %ld epochs of %ld steps\n", TORCH_VERSION, spec.threads, spec.samples,
              spec.dataset.c_str(), spec.epochs, spec.steps_per_epoch());

  const Samples training = normalise(conditions.train.images, conditions.train.labels, spec, at::kFloat);
  const Samples test = normalise(conditions.test.images, conditions.test.labels, spec, at::kFloat);
  const Parameters weights(conditions.weights, at::kFloat);
  ParallelLeNet5 network(weights, spec.threads);
  Adam adam(weights.flat, spec.beta1, spec.beta2, spec.epsilon);
  Tensors probes = probe(network, training, conditions.order[0][0]);

  std::vector<float> losses;
  const double* rates = conditions.rates.const_data_ptr<double>();
  std::ofstream metrics_file(partial / "metrics.jsonl");
  const double setup_seconds = seconds_since(start);
  const int64_t samples_an_epoch = spec.steps_per_epoch() * spec.batch_size;
  double seconds = 0;
  Json line;
  for (int64_t epoch = 1; epoch <= spec.epochs; ++epoch) {
    const Clock::time_point epoch_start = Clock::now();
    double sum = 0;
    for (int64_t step = 0; step < spec.steps_per_epoch(); ++step) {
      const double loss = network.loss(training, conditions.order[epoch - 1][step]);
      if (!std::isfinite(loss)) {
        throw Error("the loss is " + std::to_string(loss) + " in epoch " + std::to_string(epoch) + ", step " + std::to_string(step + 1) +
                    ": train with a lower learning_rate");
      }
      adam.step(network.gradient().flat, rates[losses.size()]);
      losses.push_back(static_cast<float>(loss));
      sum += loss;
    }
    const double epoch_seconds = seconds_since(epoch_start);
    seconds += epoch_seconds;
    probes["predictions"] = predict(network, test);
    line = {{"epoch", epoch},
            {"loss", sum / spec.steps_per_epoch()},
            {"accuracy", accuracy(probes["predictions"], test)},
            {"seconds", epoch_seconds},
            {"samples_per_second", samples_an_epoch / epoch_seconds}};
    metrics_file << line.dump() << std::endl;
    std::printf("epoch %ld/%ld  loss %.4f  accuracy %.2f %%  %.1f s  %.0f samples/s\n", epoch, spec.epochs, line["loss"].get<double>(),
                100 * line["accuracy"].get<double>(), epoch_seconds, samples_an_epoch / epoch_seconds);
  }
  metrics_file.close();
  if (!metrics_file) throw Error((partial / "metrics.jsonl").string() + " cannot be written: check the space left");

  probes["losses"] = at::tensor(losses);
  probes["rehearsal"] = rehearse(conditions);
  write_file(partial / "probe.safetensors", to_safetensors(probes));
  write_file(partial / "golden.safetensors", to_safetensors(golden(network, test, conditions.test.images)));
  export_torchscript(partial / "model.pt", weights.named(), spec.mean, spec.std);
  if (!verified_in_fresh_process(partial)) return false;
  write_manifest(partial, conditions,
                 {{"accuracy", line["accuracy"]},
                  {"loss", line["loss"]},
                  {"seconds", seconds},
                  {"setup_seconds", setup_seconds},
                  {"samples_per_second", spec.epochs * samples_an_epoch / seconds}});
  fs::rename(partial, paths.out);
  std::printf("export verified in a fresh process  %s\n", paths.out.c_str());
  return true;
}
