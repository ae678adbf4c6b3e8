BIN := .venv/bin
# Tests of which no two share anything, and none takes the time of what it tests; the longest first.
SIDE_BY_SIDE := $(addprefix tests/,$(addprefix serving/,test_release.py test_bad_versions.py test_drill.py test_record.py \
    speech tfserving torchserve) train_server windtunnel)
# Tests of whole platforms, of which each process has its own; the longest first.
LONGEST := tests/e2e/test_lenet5.py tests/e2e/test_speech.py
E2E := $(LONGEST) $(filter-out $(LONGEST),$(wildcard tests/e2e/test_*.py))
PYTEST_TWICE := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup run images test test-containers bench-train bench-serve bench-judge bench-switch bench-speech bench-speech-swap bench-containers figures down

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: ## install what is missing and build the C++ trainer
	@scripts/setup.sh

run: setup ## start the platform, train and release LeNet-5 three ways, show the result
	@$(BIN)/windtunnel up
	@$(BIN)/windtunnel run lenet5

images: ## build the images of the containers
	@scripts/images.sh

test: ## check and test everything
	@scripts/setup.sh chromium=chromium
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/ctest --test-dir libtorch_cpp/build --output-on-failure
	$(PYTEST_TWICE) $(SIDE_BY_SIDE)
	$(PYTEST_TWICE) $(E2E)
	$(BIN)/pytest --ignore=tests/containers --ignore=tests/e2e $(addprefix --ignore=,$(SIDE_BY_SIDE))

test-containers: setup ## build the images, start everything as containers on a real Docker engine, and test it
	@$(BIN)/pytest tests/containers --timeout=1500

bench-train: setup ## measure the trainers beside their tutorials and the machine, and draw it
	@$(BIN)/python -m train_server.benchmark
	@$(BIN)/python -m train_server.figures

bench-serve: setup ## measure the model servers beside their stock configurations
	@$(BIN)/python -m serving.tuning

bench-judge: setup ## how often a comparison of two versions is right: the same one twice, and one that is slowed by a fifth
	@$(BIN)/python -m serving.judging

bench-switch: setup ## switch versions 200 times under load, on both servers, over both protocols
	@$(BIN)/python -m serving.switching

bench-speech: setup ## measure the speech server beside the same stack without a model, and beside a pool of processes
	@$(BIN)/python -m serving.speech.benchmark

bench-speech-swap: setup ## what a thousand clients notice while the speech server is retrained and its model replaced
	@$(BIN)/python -m serving.speech.replacing

bench-containers: setup ## measure what a container costs a task, beside a stack that is up
	@$(BIN)/python -m dags.benchmark

figures: ## make the pictures in img/ of the newest successful runs of the platform that is up
	@scripts/setup.sh chromium=chromium dot=graphviz
	@$(BIN)/python scripts/figures.py

down: ## stop the platform, leaving no process
	@$(BIN)/windtunnel down
