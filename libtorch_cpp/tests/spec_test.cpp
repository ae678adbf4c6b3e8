#include "spec.h"

#include "fixtures.h"

TEST_CASE("all fields of a spec are read") {
  const SmallRun run;
  const Spec spec = read_spec(run / "spec.json");
  CHECK(spec.dataset == "bars");
  CHECK(spec.mean == 0.25);
  CHECK(spec.std == 0.5);
  CHECK(spec.beta2 == 0.999);
  CHECK(spec.epsilon == 1e-8);
  CHECK(spec.threads == 1);
  CHECK(spec.steps() == 60);
}

TEST_CASE("a spec that lacks a field or is malformed is rejected by name") {
  const Folder folder;
  nlohmann::json spec = small_spec();
  spec.erase("beta2");
  for (const auto& [content, found] : {std::pair(spec.dump(), "beta2"), std::pair(std::string("{"), "does not have")}) {
    const std::filesystem::path file = folder / "spec.json";
    write_file(file, content);
    CHECK_ERROR(read_spec(file), "spec " + file.string() + " does not have the format in train_server/README.md");
    CHECK_ERROR(read_spec(file), found);
  }
}
