#include "train.h"

#include <ATen/ATen.h>
#include <torch/headeronly/version.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "error.h"
#include "export.h"
#include "files.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t golden_images = 32;
constexpr int64_t rehearsal_steps = 101;  // the last loss is the loss after 100 steps

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void check_losses(const at::Tensor& losses, int64_t epoch) {
  const at::Tensor bad = losses.isfinite().logical_not().nonzero();
  if (bad.size(0) == 0) return;
  const auto step = bad[0][0].item<int64_t>();
  throw Error("the loss is " + std::to_string(losses[step].item<double>()) + " in epoch " + std::to_string(epoch) + ", step " +
              std::to_string(step + 1) + ": train with a lower learning_rate");
}

// Takes the run's first steps in float64, with the code that trains. Returns `gradient.NAME` of every weight before the first step, and
// `rehearsal`, the loss of each step (at most rehearsal_steps).
Tensors rehearse(MakeTrainer make_trainer, const Conditions& conditions) {
  const at::Tensor order = conditions.order.flatten(0, 1).slice(0, 0, rehearsal_steps), chosen = order.flatten();
  Conditions few = conditions;
  few.train = {conditions.train.images.index_select(0, chosen), conditions.train.labels.index_select(0, chosen)};
  const at::Tensor renumbered = at::arange(chosen.numel(), at::kInt).view_as(order);
  const auto trainer = make_trainer(few, at::kDouble);
  Tensors found = trainer->probe(renumbered[0]);
  found.erase("logits");
  found["rehearsal"] = trainer->train_epoch(renumbered, conditions.rates.flatten().slice(0, 0, rehearsal_steps));
  return found;
}

Tensors golden(Trainer& trainer, const at::Tensor& images) {
  const at::Tensor logits = trainer.predict(images);
  return {{"image", images.unsqueeze(3).to(at::kFloat)},
          {"logits", logits},
          {"probabilities", logits.softmax(1)},
          {"label", logits.argmax(1)}};
}

}  // namespace

void train(MakeTrainer make_trainer, const Paths& paths, Clock::time_point start) {
  const Conditions conditions = load_conditions(paths.spec, paths.data, paths.conditions);
  const Spec& spec = conditions.spec;
  const auto trainer = make_trainer(conditions, at::kFloat);
  Tensors probe{{"logits", trainer->probe(conditions.order[0][0]).at("logits")}};
  std::ofstream metrics(paths.out / "metrics.jsonl");
  const double setup_seconds = seconds_since(start);
  std::printf("libtorch %s  threads %ld  %ld samples of %s  %ld epochs of %ld steps\n", TORCH_VERSION, spec.threads, spec.samples,
              spec.dataset.c_str(), spec.epochs, spec.steps_per_epoch());

  std::vector<at::Tensor> losses;
  for (int64_t epoch = 1; epoch <= spec.epochs; ++epoch) {
    const Clock::time_point epoch_start = Clock::now();
    losses.push_back(trainer->train_epoch(conditions.order[epoch - 1], conditions.rates[epoch - 1]));
    const double seconds = seconds_since(epoch_start), rate = spec.steps_per_epoch() * spec.batch_size / seconds;
    check_losses(losses.back(), epoch);
    probe["predictions"] = trainer->predict(conditions.test.images).argmax(1);
    const auto loss = losses.back().mean(at::kDouble).item<double>();
    const auto accuracy = probe["predictions"].eq(conditions.test.labels).mean(at::kDouble).item<double>();
    nlohmann::ordered_json line = {
        {"epoch", epoch}, {"loss", loss}, {"accuracy", accuracy}, {"seconds", seconds}, {"samples_per_second", rate}};
    if (epoch == 1) line["setup_seconds"] = setup_seconds;
    metrics << line.dump() << std::endl;
    std::printf("epoch %ld/%ld  loss %.4f  accuracy %.2f %%  %.1f s  %.0f samples/s\n", epoch, spec.epochs, loss, 100 * accuracy, seconds,
                rate);
  }
  metrics.close();
  if (!metrics) throw Error((paths.out / "metrics.jsonl").string() + " cannot be written: check its folder and the free space");

  probe["losses"] = at::cat(losses);
  probe.merge(rehearse(make_trainer, conditions));
  write_file(paths.out / "probe.safetensors", to_safetensors(probe));
  write_file(paths.out / "golden.safetensors", to_safetensors(golden(*trainer, conditions.test.images.slice(0, 0, golden_images))));
  export_torchscript(paths.out / "model.pt", trainer->weights(), spec.mean, spec.std);
}
