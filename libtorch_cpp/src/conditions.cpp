#include "conditions.h"

#include <ATen/ATen.h>

#include "files.h"

const std::vector<std::pair<std::string, std::vector<int64_t>>>& lenet5_shapes() {
  static const std::vector<std::pair<std::string, std::vector<int64_t>>> shapes = {
      {"c1.weight", {6, 1, 5, 5}},    {"c1.bias", {6}},   {"c3.weight", {16, 6, 5, 5}}, {"c3.bias", {16}},
      {"c5.weight", {120, 16, 5, 5}}, {"c5.bias", {120}}, {"f6.weight", {84, 120}},     {"f6.bias", {84}},
      {"out.weight", {10, 84}},       {"out.bias", {10}}};
  return shapes;
}

Conditions load_conditions(const std::filesystem::path& spec, const std::filesystem::path& data,
                           const std::filesystem::path& conditions) {
  Conditions found;
  found.spec = read_spec(spec);
  const std::string weights_file = conditions / "weights.safetensors", schedule_file = conditions / "schedule.safetensors";
  const Tensors weights = parse_safetensors(weights_file, read_file(weights_file));
  for (const auto& [name, shape] : lenet5_shapes()) {
    found.weights[name] = expect_tensor(weights_file, weights, name, at::kFloat, shape);
  }
  const Spec& s = found.spec;
  const Tensors schedule = parse_safetensors(schedule_file, read_file(schedule_file));
  found.order = expect_tensor(schedule_file, schedule, "order", at::kInt, {s.epochs, s.steps_per_epoch(), s.batch_size});
  const at::Tensor rates = expect_tensor(schedule_file, schedule, "learning_rate", at::kDouble, {s.steps()});
  found.rates = rates.view({s.epochs, s.steps_per_epoch()});
  found.train = read_split(data, "train");
  found.test = read_split(data, "t10k");
  return found;
}
