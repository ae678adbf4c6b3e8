BIN := .venv/bin
# More processes than cores, because the tests of platforms spend half of their time waiting.
PYTEST := $(BIN)/pytest -n 3 --durations=25 --ignore=tests/faults
TESTS := --ignore=tests/containers
CPP := $(BIN)/cmake --build libtorch_cpp/build --target

.PHONY: help setup run images test test-fast test-containers test-faults bench-run bench-train bench-parity bench-serve bench-judge bench-switch bench-speech bench-speech-swap bench-soak bench-containers docs sbom figures down

help: ## show this help
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 19

setup: ## install missing packages and build the C++ trainers
	@scripts/setup.sh

run: setup ## start the platform, train LeNet-5 with three frameworks, release it, show the result
	@$(BIN)/windtunnel up
	@$(BIN)/windtunnel run lenet5

images: ## build the container images
	@scripts/images.sh

test: ## run all checks and tests, without those of containers and faults
	@scripts/setup.sh chromium=chromium
	@$(CPP) lenet5_test tutorial_mnist
	@$(PYTEST) $(TESTS)

test-fast: setup ## run all checks, and the tests that start no server, trainer or platform
	@$(CPP) lenet5_test
	@$(BIN)/pytest -n 2 -m fast

test-containers: setup ## build the images, and test the containers on a real Docker engine
	@$(BIN)/pytest tests/containers

test-faults: setup ## fill a small disk, kill processes at random, send made-up requests for 40 minutes; root can mount the disk
	@KILLS=20 FUZZ_SECONDS=600 $(BIN)/pytest -s tests/faults tests/e2e/test_killed.py $$(find tests -name test_fuzz.py)

bench-run: setup ## measure the duration of a run by activity, and the cost of an idle platform, on a platform of its own
	@$(BIN)/python -m benchmarks.run_timing

bench-train: setup ## measure the trainers, compare them with their tutorials and the machine's limits, draw the figures
	@$(CPP) tutorial_mnist
	@$(BIN)/python -m benchmarks.trainers.training_speed
	@$(BIN)/python -m benchmarks.figures

bench-parity: setup ## measure the accuracy of the parity certificate, with equal trainings and ten kinds of sabotage
	@$(BIN)/python -m benchmarks.trainers.parity_accuracy

bench-serve: setup ## measure the model servers, and compare them with their stock configurations
	@$(BIN)/python -m benchmarks.model_servers.server_tuning

bench-judge: setup ## measure the accuracy of version comparisons, with equal versions and one slowed by a fifth
	@$(BIN)/python -m benchmarks.model_servers.comparison_accuracy

bench-switch: setup ## switch versions 200 times under load, on both servers, over both protocols
	@$(BIN)/python -m benchmarks.model_servers.version_switching

bench-speech: setup ## measure the speech server, and compare it with its no-op baseline and a process pool
	@$(BIN)/python -m benchmarks.speech.speech_throughput

bench-speech-swap: setup ## measure the latency of a thousand clients while the speech model is retrained and replaced
	@$(BIN)/python -m benchmarks.speech.model_replacement

bench-soak: setup ## measure an hour of traffic over every protocol, with a release a minute, on a platform of its own
	@$(BIN)/python -m benchmarks.soak

bench-containers: setup ## measure the overhead of running a task in a container, on a running stack
	@$(BIN)/python -m benchmarks.container_cost

docs: setup ## build the documentation as a site in build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

sbom: setup ## write software bills of materials, of .venv and of the images that are built, to build/sbom
	@$(BIN)/python scripts/sbom.py

figures: ## make the pictures in img/ from the newest successful runs on the running platform
	@scripts/setup.sh chromium=chromium dot=graphviz
	@$(BIN)/python scripts/figures.py

down: ## stop all processes of the platform
	@$(BIN)/windtunnel down
