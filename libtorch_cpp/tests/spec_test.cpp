#include "spec.h"

#include "fixtures.h"

TEST_CASE("a spec is read whole") {
  const Spec spec = parse_spec("spec.json", small_spec().dump());
  CHECK(spec.dataset == "bars");
  CHECK(spec.mean == 0.25);
  CHECK(spec.std == 0.5);
  CHECK(spec.beta2 == 0.999);
  CHECK(spec.epsilon == 1e-8);
  CHECK(spec.threads == 2);
  CHECK(spec.steps() == 60);
  CHECK(nlohmann::json(spec.json) == small_spec());
}

TEST_CASE("a spec that cannot be trained with is refused by field and value") {
  const auto expect = [](const char* field, const nlohmann::json& value, const std::string& found) {
    nlohmann::json spec = small_spec();
    spec[field] = value;
    CHECK_ERROR(parse_spec("s.json", spec.dump()), "spec s.json: " + found);
  };
  expect("model", "lenet6", "model: must be one of [\"lenet5\"] (found \"lenet6\")");
  expect("schedule", "step", "schedule: must be one of");
  expect("dataset", 3, "dataset: must be a string (found 3)");
  expect("std", 0, "std: must be a number above 0 (found 0)");
  expect("mean", "0.1", "mean: must be a number (found \"0.1\")");
  expect("beta1", 1.0, "beta1: must be a number from 0 to below 1 (found 1.0)");
  expect("epsilon", -1e-8, "epsilon: must be a number above 0 (found -1e-08)");
  expect("epochs", 0, "epochs: must be an integer, at least 1 (found 0)");
  expect("epochs", 1.5, "epochs: must be an integer");
  expect("threads", -1, "threads: must be an integer");
  expect("batch_size", 641, "samples: is less than one batch of 641");
  expect("momentum", 0.9, "momentum: is not a field of a spec");

  nlohmann::json spec = small_spec();
  spec.erase("beta2");
  CHECK_ERROR(parse_spec("s.json", spec.dump()), "beta2 is missing");
  CHECK_ERROR(parse_spec("s.json", "{"), "spec s.json is not a JSON object");
}
