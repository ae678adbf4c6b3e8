BIN := .venv/bin
# More processes than cores: the tests of platforms wait half of their time.
PYTEST := $(BIN)/pytest -n 3 --durations=25
TESTS := --ignore=tests/containers
CPP := $(BIN)/cmake --build libtorch_cpp/build --target

.PHONY: help setup run images test test-fast test-containers bench-run bench-train bench-parity bench-serve bench-judge bench-switch bench-speech bench-speech-swap bench-containers figures down

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 19

setup: ## install what is missing and build the C++ trainer
	@scripts/setup.sh

run: setup ## start the platform, train and release LeNet-5 three ways, show the result
	@$(BIN)/windtunnel up
	@$(BIN)/windtunnel run lenet5

images: ## build the images of the containers
	@scripts/images.sh

test: ## check and test everything
	@scripts/setup.sh chromium=chromium
	@$(CPP) lenet5_test tutorial_mnist
	@$(PYTEST) $(TESTS)

test-fast: setup ## check everything, and test what starts no server, trainer or platform
	@$(CPP) lenet5_test
	@$(BIN)/pytest -n 2 -m fast

test-containers: setup ## build the images, start everything as containers on a real Docker engine, and test it
	@$(BIN)/pytest tests/containers

bench-run: setup ## measure how long a run takes and what of it, and what the idle platform costs, on a platform of its own
	@$(BIN)/python -m windtunnel.timing

bench-train: setup ## measure the trainers beside their tutorials and the machine, and draw it
	@$(CPP) tutorial_mnist
	@$(BIN)/python -m train_server.benchmark
	@$(BIN)/python -m train_server.figures

bench-parity: setup ## whether the parity certificate is right: equal trainings, and ten kinds of sabotage
	@$(BIN)/python -m train_server.parity_benchmark

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
